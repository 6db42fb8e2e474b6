//! Texts and numbers as they stand in the page.

/// A text as content or attribute of an element. Characters that HTML does not allow are replaced.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&#39;",
            '\n' | '\t' => out.push(character),
            character if character.is_control() => out.push('\u{fffd}'),
            character => out.push(character),
        }
    }
    out
}

/// Three digits that count, with a minus sign that is as wide as a plus.
pub(super) fn number(x: f64) -> String {
    let size = x.abs();
    let plain = if !x.is_finite() {
        format!("{x}")
    } else if size < f64::MIN_POSITIVE {
        "0".to_owned()
    } else if !(1e-3..1e5).contains(&size) {
        format!("{x:.2e}")
    } else if size < 0.9995 {
        // Rounded to three digits that count, whichever they are.
        let places = usize::from(size < 0.099_95) + usize::from(size < 0.009_995);
        format!("{x:.*}", 3 + places)
    } else if size < 9.995 {
        format!("{x:.2}")
    } else if size < 99.95 {
        format!("{x:.1}")
    } else {
        format!("{x:.0}")
    };
    minus(&plain)
}

/// Like [`number`] without zeros at the end: ends of scales.
pub(super) fn short(x: f64) -> String {
    let whole = number(x);
    if whole.contains('.') && !whole.contains('e') {
        whole.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        whole
    }
}

/// Like [`short`] with a sign before positive numbers.
pub(super) fn signed(x: f64) -> String {
    if x > 0.0 { format!("+{}", short(x)) } else { short(x) }
}

/// "1 pixel", "2 pixels".
pub(super) fn count(n: usize, one: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{n} {one}s") }
}

pub(super) fn minus(text: &str) -> String {
    text.replace('-', "\u{2212}")
}
