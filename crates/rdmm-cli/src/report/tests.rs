use super::*;

mod browser;
mod demo;

/// Bytes of the PNG of a data URI.
fn png_of(uri: &str) -> Vec<u8> {
    use base64::Engine as _;
    let text = uri.strip_prefix("data:image/png;base64,").unwrap();
    base64::engine::general_purpose::STANDARD.decode(text).unwrap()
}

/// Width, height and opaque or transparent pixels of a data URI, by the decoder's own expansion.
fn decoded(uri: &str) -> (u32, u32, Vec<[u8; 4]>) {
    let mut decoder = png::Decoder::new(std::io::Cursor::new(png_of(uri)));
    decoder.set_transformations(png::Transformations::ALPHA);
    let mut reader = decoder.read_info().unwrap();
    let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut bytes).unwrap();
    assert_eq!(info.color_type, png::ColorType::Rgba);
    let pixels = bytes[..info.buffer_size()].as_chunks::<4>().0.to_vec();
    (info.width, info.height, pixels)
}

/// All data URIs of attributes in the card of an id.
fn uris<'a>(html: &'a str, id: &str) -> Vec<&'a str> {
    let card = card(html, id);
    card.split('"').filter(|text| text.starts_with("data:")).collect()
}

fn card<'a>(html: &'a str, id: &str) -> &'a str {
    let start = html.find(&format!("id=\"{id}\"")).unwrap();
    let rest = &html[start..];
    &rest[..rest.find("</section>").unwrap()]
}

fn slice<const N: usize>(columns: usize, values: [f32; N]) -> Slice {
    Slice { columns, rows: N / columns, spacing: [1.0, 1.0], values: values.to_vec() }
}

/// x + u(x) over pixels.
fn map_of(columns: usize, rows: usize, u: impl Fn(f64, f64) -> [f64; 2]) -> [Slice; 2] {
    [0, 1].map(|axis| {
        let value = |k: usize| {
            let place = [(k % columns) as f64, (k / columns) as f64];
            #[expect(clippy::cast_possible_truncation, reason = "images are f32")]
            let value = (place[axis] + u(place[0], place[1])[axis]) as f32;
            value
        };
        let values = (0..columns * rows).map(value).collect();
        Slice { columns, rows, spacing: [1.0, 1.0], values }
    })
}

/// Two by two pixels, the identity.
fn small() -> Plane {
    Plane {
        unit: Unit::MILLIMETRES,
        name: "axial, z = 1.0 mm".to_owned(),
        fixed: slice(2, [0.0, 1.0, 2.0, 4.0]),
        moving: Some(slice(2, [4.0, 1.0, 2.0, 0.0])),
        warped: slice(2, [0.0, 1.0, 2.0, 3.0]),
        map: map_of(2, 2, |_, _| [0.0, 0.0]),
        det: slice(2, [1.0, 2.0, 0.5, 1.0]),
        sigma: None,
        labels: None,
    }
}

fn page(planes: Vec<Plane>) -> Page {
    Page {
        title: "t".to_owned(),
        summary: Vec::new(),
        table: Vec::new(),
        planes,
        convergence: Vec::new(),
        details: Vec::new(),
        warnings: Vec::new(),
    }
}

#[test]
fn texts_are_escaped_wherever_they_stand() {
    let evil = "<script>\"'&\u{0}";
    let safe = "&lt;script&gt;&quot;&#39;&amp;\u{fffd}";
    let text = || evil.to_owned();
    let mut plane = small();
    plane.name = text();
    let mut page = page(vec![plane.clone(), plane]);
    page.title = text();
    page.summary = vec![(text(), text())];
    page.table = vec![[text(), text(), text()]];
    page.details = vec![(text(), serde_json::Value::String(text())), (text(), [evil].into())];
    page.warnings = vec![text()];
    let html = html(&page).unwrap();
    assert!(!html.contains("<script"));
    // Title and heading, card, table, detail, warning; each plane on its button, its captions and pictures.
    assert!(html.matches(safe).count() >= 2 + 2 + 3 + 3 + 1 + 2 + 2 * 5, "{html}");
}

#[test]
fn pages_name_no_other_host_and_hold_no_script() {
    let html = html(&demo::planes()).unwrap();
    for word in ["<script", "http:", "https:", "url(", "@import", "<link", "onload", " style="] {
        assert!(!html.contains(word), "{word}");
    }
    for (before, _) in html.match_indices("src=\"").chain(html.match_indices("href=\"")) {
        let value = html[before..].split('"').nth(1).unwrap();
        assert!(value.starts_with("data:image/png") || value.starts_with('#'), "{value:.40}");
    }
}

#[test]
fn identifiers_are_unique() {
    let html = html(&demo::planes()).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for (before, _) in html.match_indices(" id=\"") {
        let id = html[before..].split('"').nth(1).unwrap();
        assert!(seen.insert(id), "{id} twice");
    }
}

#[test]
fn the_same_page_gives_the_same_bytes() {
    assert_eq!(html(&demo::planes()).unwrap(), html(&demo::planes()).unwrap());
}

#[test]
fn three_noisy_planes_of_256_pixels_stay_below_three_megabytes() {
    // Noise is the worst that a lossless format can meet.
    let html = html(&demo::noise(256)).unwrap();
    assert!(html.len() < 3_000_000, "{}", html.len());
}

#[test]
fn grey_pictures_decode_to_the_values() {
    let html = html(&page(vec![small()])).unwrap();
    // Fixed, moving, warped, all from 0 (black) to 4 (white).
    let pictures = uris(&html, "images");
    assert_eq!(pictures.len(), 3);
    let (width, height, pixels) = decoded(pictures[0]);
    assert_eq!((width, height), (2, 2));
    // Bytes 0, 63.5 → 64, 127 and 254 of 254, as grey levels of 255.
    let grey = |level: u8| [level, level, level, 255];
    assert_eq!(pixels, [grey(0), grey(64), grey(128), grey(255)]);
    assert_eq!(decoded(pictures[1]).2, [grey(255), grey(64), grey(128), grey(0)]);
}

#[test]
fn checkerboards_take_squares_of_both_images_in_turn() {
    let mut plane = small();
    // 16 × 8 pixels: squares are of two pixels.
    plane.fixed = Slice { columns: 16, rows: 8, values: vec![0.0; 128], ..plane.fixed };
    plane.fixed.values[0] = 1.0;
    plane.warped = Slice { values: vec![1.0; 128], ..plane.fixed };
    plane.warped.values[127] = 0.0;
    plane.moving = None;
    plane.map = map_of(16, 8, |_, _| [0.0, 0.0]);
    let html = html(&page(vec![plane])).unwrap();
    let (_, _, pixels) = decoded(uris(&html, "checkerboard")[0]);
    let at = |x: usize, y: usize| pixels[16 * y + x][0];
    assert_eq!(
        [at(0, 0), at(1, 0), at(1, 1), at(2, 0), at(3, 1), at(4, 0)],
        [255, 0, 0, 255, 255, 0]
    );
    assert_eq!([at(0, 2), at(2, 2)], [255, 0]);
    assert!(card(&html, "checkerboard").contains("Squares of 2 mm"));
}

#[test]
fn images_of_other_ranges_have_windows_of_their_own() {
    let mut plane = small();
    plane.warped = slice(2, [0.0, 1000.0, 2000.0, 3000.0]);
    plane.moving = None;
    let html = html(&page(vec![plane])).unwrap();
    let text = "fixed image: 0 to 4; moving and warped image: 0 to 3000";
    assert!(card(&html, "images").contains(text));
    assert_eq!(decoded(uris(&html, "images")[1]).2[3], [255; 4]);
}

#[test]
fn differences_before_and_after_share_a_symmetric_scale() {
    let html = html(&page(vec![small()])).unwrap();
    for id in ["difference-before", "difference-after"] {
        let card = card(&html, id);
        assert!(card.contains(">\u{2212}4<") && card.contains(">0<") && card.contains(">+4<"));
    }
    let before = decoded(uris(&html, "difference-before")[0]).2;
    let after = decoded(uris(&html, "difference-after")[0]).2;
    // +4 is the red end, −4 the blue end, 0 the white middle; after: −1 is a light blue.
    assert_eq!(
        before,
        [[136, 16, 42, 255], [248, 248, 248, 255], [248, 248, 248, 255], [24, 58, 128, 255]]
    );
    assert_eq!(after[0], [248, 248, 248, 255]);
    assert!(after[3][2] > after[3][0] && after[3][0] > 150, "{:?}", after[3]);
}

#[test]
fn folds_are_marked_and_counted() {
    let mut plane = small();
    plane.det = slice(2, [-0.5, 2.0, 0.5, 0.0]);
    let folded = html(&page(vec![plane])).unwrap();
    let card = card(&folded, "determinant");
    assert!(card.contains("2 pixels folded in the plane"));
    assert!(card.contains("class=\"fold-area\" d=\"M0 0H1v1H0zM1 1H2v1H1z\""), "{card}");
    // The ends are ln 2 = 0.693, upwards 0.7, and nothing is coloured where the map folds.
    assert!(card.contains("+0.7") && card.contains("\u{2212}0.7"));
    let (_, _, pixels) = decoded(uris(&folded, "determinant")[0]);
    assert_eq!([pixels[0][3], pixels[1][3], pixels[2][3], pixels[3][3]], [0, 255, 255, 0]);

    let whole = html(&page(vec![small()])).unwrap();
    assert!(!whole.contains("class=\"fold-area\""));
    assert!(whole.contains("No folded pixel in the plane."));
}

#[test]
fn the_colour_of_folds_is_in_no_scale() {
    use super::colour::Palette;
    for palette in [Palette::Grey, Palette::Diverging] {
        for [red, green, blue] in palette.colours() {
            let away = [(red, 255), (green, 229), (blue, 0)]
                .map(|(a, b): (u8, i32)| (i32::from(a) - b).abs())
                .into_iter()
                .max();
            assert!(away > Some(80), "{red} {green} {blue}");
        }
    }
    assert!(include_str!("style.css").contains("path.fold-area, path.fold { fill: #ffe500; }"));
}

#[test]
fn lattices_follow_the_map() {
    // 5 × 3 pixels, lines at every second, shifted by half a column and down by one in the last row.
    let map = map_of(5, 3, |_, y| [0.5, if y > 1.5 { 1.0 } else { 0.0 }]);
    let resolution = lines::resolution(&map[0]);
    assert_eq!(resolution, 100);
    assert_eq!(
        lines::lattice(&map, [2, 2]),
        "M100 50l0 100l0 200M300 50l0 100l0 200M500 50l0 100l0 200M100 50l400 0M100 350l400 0"
    );
}

#[test]
fn lattices_are_interrupted_where_the_map_is_not_finite() {
    let mut map = map_of(4, 1, |_, _| [0.0, 0.0]);
    map[1].values[1] = f32::NAN;
    // Three lines along the column have one point each; the row has a gap.
    assert_eq!(lines::lattice(&map, [3, 1]), "M50 50M350 50M50 50M250 50l100 0");
}

#[test]
fn lattices_have_about_24_lines_evenly_in_millimetres() {
    let fixed = Slice { columns: 240, rows: 60, spacing: [1.0, 4.0], values: Vec::new() };
    assert_eq!(lines::steps(&fixed, lines::apart(240.0)), [10, 3]);
}

#[test]
fn borders_surround_labels() {
    let one = slice(3, [0.0, 0.0, 0.0, 0.0, 7.0, 7.0]);
    let class = |x: f32| u32::from(x > 0.0);
    assert_eq!(lines::border(&one, class), "M1 1V2M3 1V2M1 1H3M1 2H3");
    assert_eq!(lines::border(&slice(2, [0.0; 4]), class), "");
}

#[test]
fn labels_that_touch_have_a_border_between_them() {
    let mut plane = small();
    let labels = slice(2, [1.0, 2.0, 1.0, 2.0]);
    plane.labels = Some([labels.clone(), labels]);
    let html = html(&page(vec![plane])).unwrap();
    let path = "M0 0V2M1 0V2M2 0V2M0 0H2M0 2H2";
    assert_eq!(card(&html, "labels").matches(path).count(), 2);
}

#[test]
fn constant_images_give_a_page() {
    let mut plane = small();
    let one = slice(2, [1.0; 4]);
    plane.moving = Some(one.clone());
    (plane.fixed, plane.warped, plane.det) = (one.clone(), one.clone(), one.clone());
    plane.sigma = Some([one.clone(), one]);
    let html = html(&page(vec![plane])).unwrap();
    assert!(card(&html, "difference-after").contains(">0 everywhere."));
    assert!(card(&html, "determinant").contains(">0 everywhere."));
    assert!(card(&html, "sigma-0").contains(">1 mm everywhere."));
    let body = &html[html.find("<body>").unwrap()..];
    assert!(!body.contains("NaN") && !body.contains("inf"));
}

#[test]
fn pixels_without_a_value_are_transparent() {
    let mut plane = small();
    plane.warped.values[2] = f32::NAN;
    let html = html(&page(vec![plane])).unwrap();
    let (_, _, pixels) = decoded(uris(&html, "images")[2]);
    assert_eq!(pixels.iter().map(|pixel| pixel[3]).collect::<Vec<_>>(), [255, 255, 0, 255]);
    assert!(!html.contains("NaN"));
}

#[test]
fn both_deviations_share_a_scale() {
    let mut plane = small();
    plane.sigma = Some([slice(1, [5.0, 10.0]), slice(1, [10.0, 20.0])]);
    let html = html(&page(vec![plane])).unwrap();
    let [first, second] = ["sigma-0", "sigma-1"].map(|id| {
        assert!(card(&html, id).contains(">5 mm<") && card(&html, id).contains(">20 mm<"));
        decoded(uris(&html, id)[0]).2
    });
    assert_eq!(first[0], [52, 16, 78, 255]);
    assert_eq!(second[1], [250, 232, 60, 255]);
    assert_eq!(first[1], second[0]);
}

#[test]
fn sections_without_content_are_left_out() {
    let html = html(&page(Vec::new())).unwrap();
    for word in ["<section", "<table", "<dl", "<svg", "<img"] {
        assert!(!html.contains(word), "{word}");
    }
}

#[test]
fn a_single_point_gives_a_chart() {
    let mut page = page(Vec::new());
    page.convergence = vec![Point {
        level: 0,
        iteration: 0,
        evaluations: 0,
        seconds: 0.0,
        total: 2.0,
        similarity: 2.0,
        regularisation: 0.0,
    }];
    let html = html(&page).unwrap();
    assert!(html.contains("class=\"plot\"") && html.contains("linear scale"));
    assert!(!html.contains("NaN") && !html.contains("inf%"));
}

#[test]
fn charts_are_logarithmic_over_a_decade_and_linear_below_or_across_zero() {
    let chart = |values: [f64; 3]| {
        let mut page = page(Vec::new());
        let point = |(k, total): (usize, f64)| Point {
            level: k / 2,
            iteration: k % 2,
            evaluations: 2 * k,
            seconds: 1.0,
            total,
            similarity: total,
            regularisation: 0.0,
        };
        page.convergence = values.into_iter().enumerate().map(point).collect();
        html(&page).unwrap()
    };
    let far = chart([100.0, 10.0, 1.0]);
    assert!(far.contains("logarithmic scale"));
    // Decades are equally far apart: the middle value is in the middle, and the others are
    // ln 1.15 / ln(1.15² · 100) = 2.86 % from the ends. Levels are not joined.
    assert!(far.contains("d=\"M0.00 2.86L50.00 50.00M100.00 97.14\""));
    assert!(chart([3.0, 2.0, 1.0]).contains("linear scale"));
    assert!(chart([100.0, 1.0, -1.0]).contains("linear scale"));
    assert!(chart([100.0, f64::NAN, 90.0]).contains("d=\"M0.00 "));
}

#[test]
fn slices_that_do_not_fit_are_refused() {
    let message = |change: &dyn Fn(&mut Plane)| {
        let mut plane = small();
        change(&mut plane);
        html(&page(vec![plane])).unwrap_err().to_string()
    };
    let short = message(&|plane| plane.det.values.truncate(3));
    assert!(short.contains("determinant: expected values for 2 columns and 2 rows, found 3"));
    let other = message(&|plane| plane.warped = slice(1, [1.0, 2.0]));
    assert!(other.contains("warped image") && other.contains("1 columns and 2 rows"), "{other}");
    let empty = message(&|plane| plane.fixed.columns = 0);
    assert!(empty.contains("a column and a row at least"), "{empty}");
    let flat = message(&|plane| plane.det.spacing[1] = 0.0);
    assert!(flat.contains("positive, finite spacings"), "{flat}");
    let huge = message(&|plane| {
        (plane.det.columns, plane.det.rows) = (usize::MAX, 2);
    });
    assert!(huge.contains("found 4 values"), "{huge}");
}

#[test]
fn numbers_have_three_digits_that_count() {
    let cases = [
        (0.0, "0"),
        (0.012_34, "0.0123"),
        (0.001_234, "0.00123"),
        (0.999_9, "1.00"),
        (0.5, "0.500"),
        (9.999, "10.0"),
        (99.99, "100"),
        (-12.34, "\u{2212}12.3"),
        (1234.5, "1234"),
        (1.5e6, "1.50e6"),
        (1e-4, "1.00e\u{2212}4"),
    ];
    for (x, expected) in cases {
        assert_eq!(text::number(x), expected, "{x}");
    }
    assert_eq!(text::short(0.5), "0.5");
    assert_eq!(text::short(100.0), "100");
    assert_eq!(text::signed(2.0), "+2");
}
