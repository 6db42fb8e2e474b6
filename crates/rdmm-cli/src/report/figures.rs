//! Figures of the planes: each quantity a card, each plane a picture in it.

use std::fmt::Write as _;

use super::colour::{Palette, Scale};
use super::text::{count, escape, number, short, signed};
use super::{Plane, Result, Slice, Unit, lines, picture};

/// Squares on the longest side of a checkerboard.
const SQUARES: f64 = 8.0;

/// One quantity.
struct Figure {
    /// Of the element, without spaces.
    id: &'static str,
    title: &'static str,
    /// What is seen, as HTML.
    note: String,
    /// A control below the pictures, as HTML.
    control: String,
    /// What stands in the frame of each plane, as HTML.
    pictures: Vec<String>,
    /// As HTML.
    legend: String,
}

/// Rules that depend on the planes: their shapes, and which are shown.
pub(super) fn rules(planes: &[Plane]) -> String {
    let longest = longest(planes);
    let mut out = String::new();
    for (k, plane) in planes.iter().enumerate() {
        let [width, height] = lengths(&plane.fixed).map(|length| 1000.0 * length / longest);
        let _ = writeln!(out, ".p{k} {{ --width: {width:.2}; --height: {height:.2}; }}");
        let _ = writeln!(
            out,
            "@media screen {{ .pictures:has(#plane-{k}:checked) .plane:not(.p{k}) \
             {{ display: none; }} }}"
        );
    }
    out
}

/// All figures; nothing where there are no planes.
pub(super) fn section(planes: &[Plane]) -> Result<String> {
    if planes.is_empty() {
        return Ok(String::new());
    }
    let class = if planes.len() == 1 { "pictures single" } else { "pictures" };
    let mut out = format!("<section class=\"{class}\">\n<h2>Pictures</h2>\n");
    out += &selection(planes);
    out += "<div class=\"figures\">\n";
    let mut figures = vec![images(planes)?, checkerboard(planes)?];
    figures.extend(differences(planes)?);
    figures.push(lattice(planes)?);
    figures.push(determinant(planes)?);
    figures.extend(deviations(planes)?);
    figures.extend(labels(planes));
    for figure in &figures {
        out += &card(figure, planes);
    }
    out += "</div>\n</section>\n";
    Ok(out)
}

/// Which plane is shown.
fn selection(planes: &[Plane]) -> String {
    if planes.len() < 2 {
        return String::new();
    }
    let mut choices = vec![("plane-all".to_owned(), "All planes".to_owned())];
    for (k, plane) in planes.iter().enumerate() {
        let name = plane.name.split(',').next().unwrap_or_default().trim();
        choices.push((format!("plane-{k}"), escape(name)));
    }
    segments("plane", "Plane", &choices, 0)
}

/// Radio buttons as one row; names are HTML.
fn segments(name: &str, title: &str, choices: &[(String, String)], checked: usize) -> String {
    let mut out = format!("<fieldset class=\"segments\"><legend>{title}</legend>");
    for (k, (id, text)) in choices.iter().enumerate() {
        let state = if k == checked { " checked" } else { "" };
        let _ = write!(
            out,
            "<label><input type=\"radio\" name=\"{name}\" id=\"{id}\"{state}>\
             <span>{text}</span></label>"
        );
    }
    out + "</fieldset>\n"
}

fn card(figure: &Figure, planes: &[Plane]) -> String {
    let Figure { id, title, note, control, pictures, legend } = figure;
    let mut out = format!(
        "<section class=\"card figure\" id=\"{id}\" aria-labelledby=\"{id}-title\">\n\
         <h3 id=\"{id}-title\">{title}</h3>\n<p class=\"note\">{note}</p>\n\
         <div class=\"planes\">\n"
    );
    for (k, (picture, plane)) in pictures.iter().zip(planes).enumerate() {
        let name = escape(&plane.name);
        let _ = writeln!(
            out,
            "<figure class=\"plane p{k}\"><div class=\"frame\">{picture}</div>\
             <figcaption>{name}</figcaption></figure>"
        );
    }
    let _ = writeln!(out, "</div>\n<div class=\"key\">\n{control}{legend}</div>\n</section>");
    out
}

/// Moving, warped and fixed image on top of one another.
fn images(planes: &[Plane]) -> Result<Figure> {
    let windows = windows(planes);
    let mut choices = vec!["warped", "fixed", "flicker"];
    if planes.iter().any(|plane| plane.moving.is_some()) {
        choices.insert(0, "moving");
    }
    let checked = choices.iter().position(|choice| *choice == "warped").unwrap_or_default();
    let choices: Vec<_> =
        choices.into_iter().map(|choice| (format!("show-{choice}"), choice.to_owned())).collect();
    let pictures = planes.iter().map(|plane| {
        let layer = |class: &str, slice: &Slice, window: &Scale| -> Result<String> {
            let image = image(&picture::uri(slice, window)?, class, "image", plane);
            Ok(format!(
                "<div class=\"layer {class}\">{image}\
                 <span class=\"badge\" aria-hidden=\"true\">{class}</span></div>"
            ))
        };
        let mut layers = layer("fixed", &plane.fixed, &windows.fixed)?;
        if let Some(moving) = &plane.moving {
            layers += &layer("moving", moving, &windows.moving)?;
        }
        Ok(layers + &layer("warped", &plane.warped, &windows.moving)?)
    });
    Ok(Figure {
        id: "images",
        title: "Images",
        note:
            "Flicker shows warped and fixed image in turn. Hold the pointer down on a picture to \
               see the fixed image."
                .to_owned(),
        control: segments("show", "Image", &choices, checked),
        pictures: pictures.collect::<Result<_>>()?,
        legend: format!("<p class=\"legend-text\">{}</p>\n", windows.sentence()),
    })
}

/// Squares of fixed and warped image in turn.
fn checkerboard(planes: &[Plane]) -> Result<Figure> {
    let windows = windows(planes);
    let side = longest(planes) / SQUARES;
    let pictures = planes.iter().map(|plane| {
        let bytes = checkered(plane, &windows, lines::steps(&plane.fixed, side));
        let shape = [plane.fixed.columns, plane.fixed.rows];
        let uri = picture::bytes_uri(shape, &bytes, Palette::Grey)?;
        Ok(image(&uri, "checkerboard of", "fixed and warped image", plane))
    });
    Ok(Figure {
        id: "checkerboard",
        title: "Checkerboard",
        note: format!(
            "Squares of {} show the fixed image, beginning top left, and the warped image in turn.",
            length(planes, side)
        ),
        control: String::new(),
        pictures: pictures.collect::<Result<_>>()?,
        legend: format!("<p class=\"legend-text\">{}</p>\n", windows.sentence()),
    })
}

fn checkered(plane: &Plane, windows: &Windows, [across, down]: [usize; 2]) -> Vec<u8> {
    let columns = plane.fixed.columns;
    let pairs = plane.fixed.values.iter().zip(&plane.warped.values);
    let byte = |(pixel, (&fixed, &warped)): (usize, (&f32, &f32))| {
        let square = pixel % columns / across + pixel / columns / down;
        if square.is_multiple_of(2) {
            windows.fixed.byte(fixed)
        } else {
            windows.moving.byte(warped)
        }
    };
    pairs.enumerate().map(byte).collect()
}

/// Grey scales of the images.
struct Windows {
    fixed: Scale,
    /// Moving and warped.
    moving: Scale,
}

impl Windows {
    fn sentence(&self) -> String {
        let Self { fixed, moving } = self;
        let range = |scale: &Scale| {
            if scale.is_point() {
                format!("{} everywhere", short(scale.low))
            } else {
                format!("{} to {}", short(scale.low), short(scale.high))
            }
        };
        if fixed == moving {
            format!("Black to white, all images: {}.", range(fixed))
        } else {
            format!(
                "Black to white, fixed image: {}; moving and warped image: {}.",
                range(fixed),
                range(moving)
            )
        }
    }
}

/// One window where the images have about the same range, else one for each of the two.
fn windows(planes: &[Plane]) -> Windows {
    let fixed = || planes.iter().flat_map(|plane| values(&plane.fixed));
    let moving = || {
        let both = planes.iter().flat_map(|plane| plane.moving.iter().chain([&plane.warped]));
        both.flat_map(values)
    };
    let [first, second] = [Scale::window(fixed()), Scale::window(moving())];
    let shared = Scale {
        low: first.low.min(second.low),
        high: first.high.max(second.high),
        exceeded: first.exceeded || second.exceeded,
        ..first
    };
    let width = |scale: &Scale| scale.high - scale.low;
    if 2.0 * width(&first).min(width(&second)) >= width(&shared) {
        Windows { fixed: shared, moving: shared }
    } else {
        Windows { fixed: first, moving: second }
    }
}

/// Moving or warped image minus fixed image, in one scale.
fn differences(planes: &[Plane]) -> Result<Vec<Figure>> {
    let after: Vec<Slice> =
        planes.iter().map(|plane| difference(&plane.warped, &plane.fixed)).collect();
    let before: Option<Vec<Slice>> = planes
        .iter()
        .map(|plane| plane.moving.as_ref().map(|moving| difference(moving, &plane.fixed)))
        .collect();
    let all = after.iter().chain(before.iter().flatten());
    let scale = Scale::symmetric(all.flat_map(values));
    let figure = |id, title, what: &str, slices: &[Slice], same: &str| -> Result<Figure> {
        let pictures = slices.iter().zip(planes).map(|(slice, plane)| {
            Ok(image(&picture::uri(slice, &scale)?, what, "minus fixed image", plane))
        });
        Ok(Figure {
            id,
            title,
            note: format!("{what} minus fixed image{same}."),
            control: String::new(),
            pictures: pictures.collect::<Result<_>>()?,
            legend: legend(&scale, &[("Difference", ends(&scale, signed))])?,
        })
    };
    let same = if before.is_some() { "; the same scale before and after" } else { "" };
    let mut figures = Vec::new();
    if let Some(before) = &before {
        figures.push(figure(
            "difference-before",
            "Difference before",
            "Moving image",
            before,
            same,
        )?);
    }
    figures.push(figure("difference-after", "Difference after", "Warped image", &after, same)?);
    Ok(figures)
}

fn difference(of: &Slice, from: &Slice) -> Slice {
    let values = of.values.iter().zip(&from.values).map(|(a, b)| a - b).collect();
    Slice { values, ..*of }
}

/// Where a lattice goes.
fn lattice(planes: &[Plane]) -> Result<Figure> {
    let apart = lines::apart(longest(planes));
    let window = windows(planes).fixed;
    let pictures = planes.iter().enumerate().map(|(k, plane)| {
        let Slice { columns, rows, .. } = plane.fixed;
        let units = lines::resolution(&plane.fixed);
        let path = lines::lattice(&plane.map, lines::steps(&plane.fixed, apart));
        let uri = picture::uri(&plane.fixed, &window)?;
        let label = escape(&format!("Deformed grid over the fixed image, {}", plane.name));
        Ok(format!(
            "<svg role=\"img\" aria-label=\"{label}\" viewBox=\"0 0 {columns} {rows}\" \
             preserveAspectRatio=\"none\"><g class=\"faint\"><image id=\"fixed-{k}\" \
             width=\"{columns}\" height=\"{rows}\" preserveAspectRatio=\"none\" href=\"{uri}\"/></g>\
             <svg viewBox=\"0 0 {} {}\" preserveAspectRatio=\"none\">\
             <path class=\"lattice\" d=\"{path}\"/></svg></svg>",
            columns * units,
            rows * units
        ))
    });
    let farthest = planes.iter().map(farthest).fold(0.0, f64::max);
    Ok(Figure {
        id: "grid",
        title: "Deformed grid",
        note: format!(
            "Where lines every {} of the fixed image go under x + u(x).",
            length(planes, apart)
        ),
        control: String::new(),
        pictures: pictures.collect::<Result<_>>()?,
        legend: format!(
            "<p class=\"legend-text\">Longest displacement in {}: {} {}.</p>\n",
            where_seen(planes),
            number(farthest * unit(planes).times),
            unit(planes).name
        ),
    })
}

/// A length of files with its unit, with few digits.
fn length(planes: &[Plane], x: f64) -> String {
    let Unit { name, times } = unit(planes);
    format!("{} {name}", short(x * times))
}

fn unit(planes: &[Plane]) -> Unit {
    planes.first().map_or(Unit::MILLIMETRES, |plane| plane.unit)
}

fn where_seen(planes: &[Plane]) -> &'static str {
    if planes.len() == 1 { "the plane" } else { "all planes" }
}

/// Length of the longest displacement within a plane, mm.
fn farthest(plane: &Plane) -> f64 {
    let Slice { columns, spacing, .. } = plane.fixed;
    let places = plane.map[0].values.iter().zip(&plane.map[1].values).enumerate();
    places
        .map(|(pixel, (&x, &y))| {
            let across = f64::from(x) - (pixel % columns) as f64;
            let down = f64::from(y) - (pixel / columns) as f64;
            (across * spacing[0]).hypot(down * spacing[1])
        })
        .filter(|length| length.is_finite())
        .fold(0.0, f64::max)
}

/// Logarithm of the determinant, folds marked.
fn determinant(planes: &[Plane]) -> Result<Figure> {
    let logarithms: Vec<Slice> = planes.iter().map(|plane| logarithm(&plane.det)).collect();
    let scale = Scale::symmetric(logarithms.iter().flat_map(values));
    let folded = planes.iter().flat_map(|plane| &plane.det.values).filter(|&&x| is_fold(x)).count();
    let pictures = planes.iter().zip(&logarithms).map(|(plane, slice)| {
        let uri = picture::uri(slice, &scale)?;
        Ok(image(&uri, "Logarithm of the", "determinant", plane) + &folds(&plane.det))
    });
    let rows = [("ln J", ends(&scale, signed)), ("J", ends(&scale, |x| short(x.exp())))];
    let mut legend = legend(&scale, &rows)?;
    legend += &fold_count(folded, planes);
    Ok(Figure {
        id: "determinant",
        title: "Jacobian determinant",
        note: "ln J of x + u(x): blue shrinks, red grows.".to_owned(),
        control: String::new(),
        pictures: pictures.collect::<Result<_>>()?,
        legend,
    })
}

fn fold_count(folded: usize, planes: &[Plane]) -> String {
    let place = where_seen(planes);
    if folded == 0 {
        return format!("<p class=\"legend-text\">No folded pixel in {place}.</p>\n");
    }
    let folded = count(folded, "pixel");
    format!(
        "<p class=\"legend-text alarm\"><svg class=\"swatch\" viewBox=\"0 0 16 16\" \
         aria-hidden=\"true\"><path class=\"fold\" d=\"M1 1h14v14h-14z\"/></svg>\
         {folded} folded in {place}: J ≤ 0.</p>\n"
    )
}

fn is_fold(det: f32) -> bool {
    det <= 0.0
}

/// Empty where the determinant is not positive.
fn logarithm(det: &Slice) -> Slice {
    let logarithm = |&x: &f32| if x > 0.0 { x.ln() } else { f32::NAN };
    Slice { values: det.values.iter().map(logarithm).collect(), ..*det }
}

/// Folded pixels, filled and with a border.
fn folds(det: &Slice) -> String {
    let area = lines::area(det, is_fold);
    if area.is_empty() {
        return String::new();
    }
    let border = lines::border(det, |x| u32::from(is_fold(x)));
    format!(
        "<svg aria-hidden=\"true\" viewBox=\"0 0 {} {}\" preserveAspectRatio=\"none\">\
         <path class=\"fold-area\" d=\"{area}\"/><path class=\"fold-border\" d=\"{border}\"/></svg>",
        det.columns, det.rows
    )
}

/// Local standard deviations in one scale, where a plane has them.
fn deviations(planes: &[Plane]) -> Result<Vec<Figure>> {
    let slices: Option<Vec<&[Slice; 2]>> =
        planes.iter().map(|plane| plane.sigma.as_ref()).collect();
    let Some(slices) = slices else {
        return Ok(Vec::new());
    };
    let all = slices.iter().flat_map(|pair| pair.iter());
    let scale = Scale::sequential(all.flat_map(values));
    let times = [
        ("sigma-0", "Local σ at t = 0", "on the moving image", "Local σ at t = 0,"),
        ("sigma-1", "Local σ at t = 1", "on the fixed image", "Local σ at t = 1,"),
    ];
    let figure = |(time, (id, title, on, alt)): (usize, (_, _, &str, &str))| {
        let pictures = slices
            .iter()
            .zip(planes)
            .map(|(pair, plane)| Ok(image(&picture::uri(&pair[time], &scale)?, alt, on, plane)));
        Ok(Figure {
            id,
            title,
            note: format!(
                "Local standard deviation of the regulariser {on}; the same scale at t = 0 and 1."
            ),
            control: String::new(),
            pictures: pictures.collect::<Result<_>>()?,
            legend: legend(&scale, &[("σ", ends(&scale, |x| length(planes, x)))])?,
        })
    };
    times.into_iter().enumerate().map(figure).collect()
}

/// Borders of the labels over the fixed image.
fn labels(planes: &[Plane]) -> Option<Figure> {
    if planes.iter().all(|plane| plane.labels.is_none()) {
        return None;
    }
    let pictures = planes.iter().enumerate().map(|(k, plane)| {
        let Slice { columns, rows, .. } = plane.fixed;
        let label = escape(&format!("Label outlines over the fixed image, {}", plane.name));
        let mut out = format!(
            "<svg role=\"img\" aria-label=\"{label}\" viewBox=\"0 0 {columns} {rows}\" \
             preserveAspectRatio=\"none\"><g class=\"dim\"><use href=\"#fixed-{k}\"/></g>"
        );
        if let Some([fixed, warped]) = &plane.labels {
            for (class, slice) in [("label-fixed", fixed), ("label-warped", warped)] {
                let path = lines::border(slice, class_of);
                let _ = write!(out, "<path class=\"{class}\" d=\"{path}\"/>");
            }
        }
        out + "</svg>"
    });
    let entry = |class: &str, name: &str| {
        format!(
            "<span class=\"entry\"><svg class=\"swatch line\" viewBox=\"0 0 28 16\" aria-hidden=\"true\">\
             <path class=\"swatch-ground\" d=\"M0 0h28v16h-28z\"/>\
             <path class=\"{class}\" d=\"M3 8h22\"/></svg>{name}</span>"
        )
    };
    Some(Figure {
        id: "labels",
        title: "Label outlines",
        note: "Borders of fixed and warped labels over the fixed image.".to_owned(),
        control: String::new(),
        pictures: pictures.collect(),
        legend: format!(
            "<p class=\"legend-text\">{} {}</p>\n",
            entry("label-fixed", "fixed labels"),
            entry("label-warped", "warped labels")
        ),
    })
}

/// A label as the bits of its number; the background and pixels without a label are 0.
fn class_of(label: f32) -> u32 {
    if label.is_finite() { (label + 0.0).to_bits() } else { 0 }
}

/// A picture that fills its frame.
fn image(uri: &str, what: &str, more: &str, plane: &Plane) -> String {
    let mut alt = format!("{what} {more}, {}", plane.name);
    if let Some(first) = alt.get_mut(0..1) {
        first.make_ascii_uppercase();
    }
    format!("<img alt=\"{}\" src=\"{uri}\">", escape(&alt))
}

/// Low end, middle and high end as they are written, with signs where values lie beyond the ends.
fn ends(scale: &Scale, text: impl Fn(f64) -> String) -> [String; 3] {
    let middle = text(0.5 * (scale.low + scale.high));
    let [low, high] = [scale.low, scale.high].map(text);
    if scale.exceeded {
        [format!("≤ {low}"), middle, format!("≥ {high}")]
    } else {
        [low, middle, high]
    }
}

/// A bar of colours, and below it rows of a name and what stands at both ends and in the middle.
fn legend(scale: &Scale, rows: &[(&str, [String; 3])]) -> Result<String> {
    if scale.is_point() {
        let value = rows.first().map_or("", |(_, [low, ..])| low);
        return Ok(format!("<p class=\"legend-text\">{value} everywhere.</p>\n"));
    }
    let bar = picture::bar(scale.palette)?;
    let mut out =
        format!("<div class=\"legend\"><img class=\"bar\" alt=\"Scale of colours\" src=\"{bar}\">");
    for (name, ticks) in rows {
        let _ = write!(out, "<span class=\"legend-name\">{name}</span>");
        for tick in ticks {
            let _ = write!(out, "<span>{tick}</span>");
        }
    }
    Ok(out + "</div>\n")
}

fn values(slice: &Slice) -> impl Iterator<Item = f64> {
    slice.values.iter().map(|&x| f64::from(x))
}

/// Lengths across and down, mm.
fn lengths(slice: &Slice) -> [f64; 2] {
    [slice.columns as f64 * slice.spacing[0], slice.rows as f64 * slice.spacing[1]]
}

/// Longest side of all planes, mm.
fn longest(planes: &[Plane]) -> f64 {
    planes.iter().flat_map(|plane| lengths(&plane.fixed)).fold(f64::MIN_POSITIVE, f64::max)
}
