//! The report of a registration: one HTML file that needs nothing else.
//!
//! There is no script in it. Pictures are PNGs in data URIs, lines are SVG, and what can be switched is
//! switched by radio buttons and style rules.

use std::fmt::Write as _;

mod chart;
mod colour;
mod figures;
mod lines;
mod picture;
#[cfg(test)]
mod tests;
mod text;

/// One slice through an image, as it is shown: rows from the top, columns from the left.
#[derive(Clone, Debug)]
pub(crate) struct Slice {
    pub(crate) columns: usize,
    pub(crate) rows: usize,
    /// Millimetres, or pixels of pictures, per column and per row.
    pub(crate) spacing: [f64; 2],
    /// Row after row. What is not finite is shown as empty.
    pub(crate) values: Vec<f32>,
}

/// The unit in which lengths are shown, and how many of it a length of one is in files.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Unit {
    pub(crate) name: &'static str,
    pub(crate) times: f64,
}

impl Unit {
    pub(crate) const MILLIMETRES: Self = Self { name: "mm", times: 1.0 };
    pub(crate) const MICROMETRES: Self = Self { name: "µm", times: 1000.0 };
    pub(crate) const PIXELS: Self = Self { name: "pixels", times: 1.0 };
}

/// The same plane of everything that a registration gives.
///
/// All slices cover the same rectangle. Those of images, map and labels have as many columns and rows as
/// `fixed`; determinant and standard deviations may be finer or coarser.
#[derive(Clone, Debug)]
pub(crate) struct Plane {
    /// What lengths are shown in.
    pub(crate) unit: Unit,
    /// Such as "axial, z = 12.0 mm": the button has what stands before the comma.
    pub(crate) name: String,
    pub(crate) fixed: Slice,
    /// The moving image on the grid of the fixed one before the deformation.
    pub(crate) moving: Option<Slice>,
    pub(crate) warped: Slice,
    /// x + u(x) at each pixel: its column and its row, in pixels of `fixed`, whole numbers at centres.
    pub(crate) map: [Slice; 2],
    /// Jacobian determinant; not positive where the map folds.
    pub(crate) det: Slice,
    /// Local standard deviation of the regulariser at t = 0 and t = 1, mm; `None` where it is constant.
    pub(crate) sigma: Option<[Slice; 2]>,
    /// Labels of the fixed image and warped ones.
    pub(crate) labels: Option<[Slice; 2]>,
}

/// What an iteration of the optimiser reached.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Point {
    /// From 0, the coarsest.
    pub(crate) level: usize,
    /// Within the level; 0 is the start.
    pub(crate) iteration: usize,
    /// Since the start, all levels.
    pub(crate) evaluations: usize,
    /// Since the start, all levels.
    pub(crate) seconds: f64,
    pub(crate) total: f64,
    pub(crate) similarity: f64,
    pub(crate) regularisation: f64,
}

/// What a report shows. Texts are plain: they are escaped here.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    pub(crate) title: String,
    /// Names and values of the key figures.
    pub(crate) summary: Vec<(String, String)>,
    /// Figure, before, after.
    pub(crate) table: Vec<[String; 3]>,
    pub(crate) planes: Vec<Plane>,
    pub(crate) convergence: Vec<Point>,
    /// What is folded in: configuration, versions, command. A string is shown as it is.
    pub(crate) details: Vec<(String, serde_json::Value)>,
    /// Folds, a registration that was stopped: shown before anything else.
    pub(crate) warnings: Vec<String>,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Slices that are none, or do not belong together.
    #[error("report, plane \"{plane}\", {what}: expected {expected}, found {found}")]
    Slice { plane: String, what: &'static str, expected: String, found: String },
    /// A picture that cannot be written.
    #[error("report: a picture could not be encoded: {0}")]
    Png(#[from] png::EncodingError),
}

type Result<T> = std::result::Result<T, Error>;

/// What the page may load: pictures and rules that it holds itself.
const POLICY: &str = "default-src 'none'; img-src data:; style-src 'unsafe-inline'";

/// The whole page as HTML. The same page gives the same bytes.
///
/// # Errors
/// [`Error::Slice`] for slices whose lengths, shapes or spacings do not fit, [`Error::Png`].
pub(crate) fn html(page: &Page) -> Result<String> {
    for plane in &page.planes {
        check(plane)?;
    }
    let title = text::escape(&page.title);
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title}</title>\n\
         <style>\n{}{}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n",
        include_str!("report/style.css"),
        figures::rules(&page.planes),
    );
    out += &warnings(&page.warnings);
    out += &summary(&page.summary);
    out += &figures::section(&page.planes)?;
    out += &chart::section(&page.convergence);
    out += &table(&page.table);
    out += &details(&page.details);
    out += "</main>\n</body>\n</html>\n";
    Ok(out)
}

fn warnings(warnings: &[String]) -> String {
    if warnings.is_empty() {
        return String::new();
    }
    let mut out = "<section class=\"warnings\" role=\"alert\">\n".to_owned();
    out += if warnings.len() == 1 { "<h2>Warning</h2>\n" } else { "<h2>Warnings</h2>\n" };
    out += "<ul>\n";
    for warning in warnings {
        let _ = writeln!(out, "<li>{}</li>", text::escape(warning));
    }
    out + "</ul>\n</section>\n"
}

fn summary(figures: &[(String, String)]) -> String {
    if figures.is_empty() {
        return String::new();
    }
    let mut out = "<dl class=\"summary\">\n".to_owned();
    for (name, value) in figures {
        let (name, value) = (text::escape(name), text::escape(value));
        let _ = writeln!(out, "<div><dt>{name}</dt><dd>{value}</dd></div>");
    }
    out + "</dl>\n"
}

fn table(rows: &[[String; 3]]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut out = "<section class=\"card\">\n<h2>Before and after</h2>\n\
                   <div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Before and after\">\n\
                   <table>\n<thead><tr><th scope=\"col\">Figure</th><th scope=\"col\">Before</th>\
                   <th scope=\"col\">After</th></tr></thead>\n<tbody>\n"
        .to_owned();
    for row in rows {
        let [name, before, after] = row.each_ref().map(|cell| text::escape(cell));
        let _ = writeln!(
            out,
            "<tr><th scope=\"row\">{name}</th><td>{before}</td><td>{after}</td></tr>"
        );
    }
    out + "</tbody>\n</table>\n</div>\n</section>\n"
}

fn details(details: &[(String, serde_json::Value)]) -> String {
    if details.is_empty() {
        return String::new();
    }
    let mut out = "<section class=\"card details\">\n<h2>Details</h2>\n".to_owned();
    for (name, value) in details {
        let shown = match value {
            serde_json::Value::String(string) => string.clone(),
            other => format!("{other:#}"),
        };
        let (name, shown) = (text::escape(name), text::escape(&shown));
        let _ = writeln!(
            out,
            "<details><summary>{name}</summary><pre><code>{shown}</code></pre></details>"
        );
    }
    out + "</section>\n"
}

/// `Ok` if the slices of a plane are whole and fit together.
fn check(plane: &Plane) -> Result<()> {
    let wrong = |what, expected: String, found: String| {
        Err(Error::Slice { plane: plane.name.clone(), what, expected, found })
    };
    let shape = |slice: &Slice| format!("{} columns and {} rows", slice.columns, slice.rows);
    for (what, slice, alike) in slices(plane) {
        if slice.columns == 0 || slice.rows == 0 {
            return wrong(what, "a column and a row at least".to_owned(), shape(slice));
        }
        if slice.columns.checked_mul(slice.rows) != Some(slice.values.len()) {
            let found = format!("{} values", slice.values.len());
            return wrong(what, format!("values for {}", shape(slice)), found);
        }
        if !slice.spacing.iter().all(|step| step.is_finite() && *step > 0.0) {
            let found = format!("{:?}", slice.spacing);
            return wrong(what, "positive, finite spacings".to_owned(), found);
        }
        if alike && (slice.columns, slice.rows) != (plane.fixed.columns, plane.fixed.rows) {
            let expected = format!("{} as those of the fixed image", shape(&plane.fixed));
            return wrong(what, expected, shape(slice));
        }
    }
    Ok(())
}

/// The slices of a plane, their names, and whether they must have the shape of the fixed one.
fn slices(plane: &Plane) -> Vec<(&'static str, &Slice, bool)> {
    let mut all = vec![
        ("fixed image", &plane.fixed, true),
        ("warped image", &plane.warped, true),
        ("columns of the map", &plane.map[0], true),
        ("rows of the map", &plane.map[1], true),
        ("determinant", &plane.det, false),
    ];
    all.extend(plane.moving.iter().map(|slice| ("moving image", slice, true)));
    all.extend(plane.sigma.iter().flatten().map(|slice| ("local σ", slice, false)));
    all.extend(plane.labels.iter().flatten().map(|slice| ("labels", slice, true)));
    all
}
