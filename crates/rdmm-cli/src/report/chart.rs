//! The curve of convergence.

use std::fmt::Write as _;

use super::Point;
use super::text::{count, minus, number, short};

/// Points up to which each is marked.
const MARKED: usize = 80;

/// Ratio of the largest to the smallest value from which an axis is logarithmic.
const DECADE: f64 = 10.0;

/// What the curves are: class, name, value.
type Curve = (&'static str, &'static str, fn(&Point) -> f64);

const CURVES: [Curve; 2] =
    [("total", "total energy", |p| p.total), ("similarity", "similarity", |p| p.similarity)];

/// How values become heights.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Axis {
    Linear { low: f64, high: f64 },
    Logarithmic { low: f64, high: f64 },
}

impl Axis {
    /// Logarithmic where all values are positive and far apart.
    fn of(values: impl Iterator<Item = f64> + Clone) -> Self {
        let finite = values.filter(|x| x.is_finite());
        let low = finite.clone().fold(f64::INFINITY, f64::min);
        let high = finite.fold(f64::NEG_INFINITY, f64::max);
        if low > high {
            return Self::Linear { low: 0.0, high: 1.0 };
        }
        if low > f64::MIN_POSITIVE && high / low >= DECADE {
            return Self::Logarithmic { low: low / 1.15, high: high * 1.15 };
        }
        let margin = if high > low { 0.06 * (high - low) } else { 0.5 * high.abs().max(1e-3) };
        Self::Linear { low: low - margin, high: high + margin }
    }

    /// Share of the axis, from its low end, of which a value is away.
    fn share(self, x: f64) -> f64 {
        match self {
            Self::Linear { low, high } => (x - low) / (high - low),
            Self::Logarithmic { low, high } => (x / low).ln() / (high / low).ln(),
        }
    }

    /// Values and how they are written.
    fn ticks(self) -> Vec<(f64, String)> {
        match self {
            Self::Linear { low, high } => linear_ticks(low, high),
            Self::Logarithmic { low, high } => logarithmic_ticks(low, high),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Linear { .. } => "linear scale",
            Self::Logarithmic { .. } => "logarithmic scale",
        }
    }
}

/// Multiples of 1, 2 or 5 times a power of ten, three to seven, with as many decimals as tell them apart.
fn linear_ticks(low: f64, high: f64) -> Vec<(f64, String)> {
    let rough = (high - low) / 5.0;
    let power = rough.log10().floor();
    let step = [1.0, 2.0, 5.0].map(|factor| decimal(factor, power));
    let step = step.into_iter().find(|step| *step >= rough).unwrap_or(decimal(10.0, power));
    let decimals = whole(-step.log10().floor());
    let text = |x: f64| {
        let zero = x.abs() < 0.5 * step;
        let large = x.abs() >= 1e6 || decimals > 6;
        minus(&match (zero, large) {
            (true, _) => "0".to_owned(),
            (false, true) => format!("{x:e}"),
            (false, false) => format!("{x:.decimals$}"),
        })
    };
    let first = (low / step).ceil();
    let ticks = (0..8).map(|k| (first + f64::from(k)) * step).filter(|x| *x <= high);
    ticks.map(|x| (x, text(x))).collect()
}

/// 1, 2 and 5 times powers of ten, or powers of ten alone where there are many.
fn logarithmic_ticks(low: f64, high: f64) -> Vec<(f64, String)> {
    let decades = (high / low).log10();
    let factors: &[f64] = if decades < 2.5 { &[1.0, 2.0, 5.0] } else { &[1.0] };
    let apart = (decades / 7.0).ceil().max(1.0);
    let mut ticks = Vec::new();
    let mut power = (low.log10() / apart).floor() * apart;
    while power <= high.log10() {
        let tick = |factor: &f64| decimal(*factor, power);
        ticks.extend(factors.iter().map(tick).filter(|x| (low..=high).contains(x)));
        power += apart;
    }
    let text = |x: f64| if (1e-3..1e6).contains(&x) { format!("{x}") } else { format!("{x:e}") };
    ticks.into_iter().map(|x| (x, minus(&text(x)))).collect()
}

/// `factor` 10^`power`, the nearest number to it.
fn decimal(factor: f64, power: f64) -> f64 {
    if power < 0.0 { factor / 10_f64.powf(-power) } else { factor * 10_f64.powf(power) }
}

/// The section; nothing where there are no points.
pub(super) fn section(points: &[Point]) -> String {
    let (Some(first), Some(last)) = (points.first(), points.last()) else {
        return String::new();
    };
    let values = CURVES.iter().flat_map(|(_, _, value)| points.iter().map(value));
    let axis = Axis::of(values);
    let levels = last.level.max(first.level) + 1;
    let summary = format!(
        "{} in {} after {} s: total energy {} at the end, similarity {}.",
        count(last.evaluations, "evaluation"),
        count(levels, "level"),
        short(last.seconds),
        number(last.total),
        number(last.similarity)
    );
    let mut out = "<section class=\"card\">\n<h2>Convergence</h2>\n".to_owned();
    let _ = write!(
        out,
        "<p class=\"note\">{summary} Energies of different levels are those of different images.</p>\n\
         <p class=\"legend-text\">"
    );
    for (class, name, _) in CURVES {
        let _ = write!(
            out,
            "<span class=\"entry\"><svg class=\"swatch line\" viewBox=\"0 0 28 16\" aria-hidden=\"true\">\
             <path class=\"curve {class}\" d=\"M1 8h26\"/></svg>{name}</span> "
        );
    }
    let _ = write!(
        out,
        "</p>\n<div class=\"chart\"><p class=\"axis-name\">Energy, {}</p>\n{}\
         <p class=\"axis-name across\">Evaluations of the energy</p></div>\n",
        axis.name(),
        plot(points, axis, &summary)
    );
    out += &table(points);
    out + "</section>\n"
}

/// Curves, levels and ticks. Places are in per cent, so that text keeps its size.
fn plot(points: &[Point], axis: Axis, summary: &str) -> String {
    let most = points.iter().map(|p| p.evaluations).max().unwrap_or_default();
    let right = most.max(1) as f64;
    let x = |evaluations: f64| 100.0 * evaluations / right;
    let y = |value: f64| 100.0 - 100.0 * axis.share(value);
    let mut out = format!("<svg class=\"plot\" role=\"img\" aria-label=\"{summary}\">");
    out += &bands(points, x);
    for (tick, text) in axis.ticks() {
        let _ = write!(
            out,
            "<line class=\"rule\" x1=\"0%\" x2=\"100%\" y1=\"{0:.2}%\" y2=\"{0:.2}%\"/>\
             <text x=\"0\" dx=\"-8\" y=\"{0:.2}%\" dy=\"0.35em\" text-anchor=\"end\">{text}</text>",
            y(tick)
        );
    }
    let whole_ones = |(tick, _): &(f64, String)| tick.fract().abs() < 1e-9;
    for (tick, text) in linear_ticks(0.0, right).into_iter().filter(whole_ones) {
        let _ = write!(
            out,
            "<line class=\"rule\" x1=\"{0:.2}%\" x2=\"{0:.2}%\" y1=\"0%\" y2=\"100%\"/>\
             <text x=\"{0:.2}%\" y=\"100%\" dy=\"1.4em\" text-anchor=\"middle\">{text}</text>",
            x(tick)
        );
    }
    out += "<svg viewBox=\"0 0 100 100\" preserveAspectRatio=\"none\">";
    for (class, _, value) in CURVES {
        let _ = write!(out, "<path class=\"curve {class}\" d=\"");
        let mut level = None;
        for point in points {
            let (across, down) = (x(point.evaluations as f64), y(value(point)));
            if !down.is_finite() {
                level = None;
                continue;
            }
            let command = if level == Some(point.level) { 'L' } else { 'M' };
            let _ = write!(out, "{command}{across:.2} {down:.2}");
            level = Some(point.level);
        }
        out += "\"/>";
    }
    out += "</svg>";
    if points.len() <= MARKED {
        for (class, _, value) in CURVES {
            for point in points.iter().filter(|point| value(point).is_finite()) {
                let (across, down) = (x(point.evaluations as f64), y(value(point)));
                let _ = write!(
                    out,
                    "<circle class=\"{class}\" cx=\"{across:.2}%\" cy=\"{down:.2}%\" r=\"2.5\"/>"
                );
            }
        }
    }
    out + "</svg>\n"
}

/// Where a level begins and ends, in turn light and dark, with its number.
fn bands(points: &[Point], x: impl Fn(f64) -> f64) -> String {
    let mut out = String::new();
    let mut from = 0;
    for (k, level) in points.chunk_by(|a, b| a.level == b.level).enumerate() {
        let to = level.last().map_or(from, |point| point.evaluations);
        let (left, right) = (x(from as f64), x(to as f64));
        let class = if k.is_multiple_of(2) { "band" } else { "band odd" };
        let _ = write!(
            out,
            "<rect class=\"{class}\" x=\"{left:.2}%\" width=\"{:.2}%\" height=\"100%\"/>",
            (right - left).max(0.0)
        );
        let number = level.first().map_or(0, |point| point.level + 1);
        if k == 0 {
            let _ = write!(out, "<text x=\"{left:.2}%\" y=\"-6\">level {number}</text>");
        } else if right - left > 4.0 {
            let _ = write!(out, "<text x=\"{left:.2}%\" y=\"-6\">{number}</text>");
        }
        from = to;
    }
    out
}

fn table(points: &[Point]) -> String {
    let mut out = "<details><summary>Figures of the curve</summary>\
                   <div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Figures of the curve\">\
                   <table><thead><tr>"
        .to_owned();
    for name in ["Level", "Iteration", "Evaluations", "Seconds", "Total", "Similarity"] {
        let _ = write!(out, "<th scope=\"col\">{name}</th>");
    }
    out += "<th scope=\"col\">Regularisation</th></tr></thead>\n<tbody>\n";
    for point in points {
        let _ = write!(
            out,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td>",
            point.level + 1,
            point.iteration,
            point.evaluations,
            number(point.seconds)
        );
        for value in [point.total, point.similarity, point.regularisation] {
            let _ = write!(out, "<td>{}</td>", precise(value));
        }
        out += "</tr>\n";
    }
    out + "</tbody></table></div></details>\n"
}

/// Six digits that count: energies of neighbouring iterations differ in the last ones.
fn precise(x: f64) -> String {
    if x.abs() < f64::MIN_POSITIVE {
        "0".to_owned()
    } else if (1e-3..1e6).contains(&x.abs()) {
        minus(&format!("{:.*}", whole(5.0 - x.abs().log10().floor()), x))
    } else {
        minus(&format!("{x:.5e}"))
    }
}

/// A whole number, zero for negative ones.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "saturates, as is wanted"
)]
fn whole(x: f64) -> usize {
    x as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_told_apart() {
        let texts = |low, high| -> Vec<String> {
            linear_ticks(low, high).into_iter().map(|(_, text)| text).collect()
        };
        assert_eq!(texts(12.311, 12.389), ["12.32", "12.34", "12.36", "12.38"]);
        assert_eq!(texts(-1.0, 1.0), ["\u{2212}1.0", "\u{2212}0.5", "0", "0.5", "1.0"]);
        assert_eq!(texts(0.0, 49.0), ["0", "10", "20", "30", "40"]);
        assert_eq!(texts(1.9e6, 4.1e6), ["2e6", "2.5e6", "3e6", "3.5e6", "4e6"]);
        let log: Vec<String> =
            logarithmic_ticks(0.03, 1.2).into_iter().map(|(_, text)| text).collect();
        assert_eq!(log, ["0.05", "0.1", "0.2", "0.5", "1"]);
        let log: Vec<String> =
            logarithmic_ticks(0.5e-5, 20.0).into_iter().map(|(_, text)| text).collect();
        assert_eq!(log, ["1e\u{2212}5", "1e\u{2212}4", "0.001", "0.01", "0.1", "1", "10"]);
    }
}
