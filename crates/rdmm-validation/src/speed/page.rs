//! The marked parts of a page, which programs write.

use std::error::Error;

/// `text` with `body` between the lines `<!-- mark -->` and `<!-- end of mark -->`.
pub fn replaced(text: &str, mark: &str, body: &str) -> Result<String, Box<dyn Error>> {
    let (begin, end) = (format!("<!-- {mark} -->\n"), format!("<!-- end of {mark} -->"));
    let missing = || format!("the page has no part between {} and {end}", begin.trim_end());
    let (before, rest) = text.split_once(&begin).ok_or_else(missing)?;
    let (_, after) = rest.split_once(&end).ok_or_else(missing)?;
    Ok(format!("{before}{begin}\n{}\n\n{end}{after}", body.trim_end()))
}
