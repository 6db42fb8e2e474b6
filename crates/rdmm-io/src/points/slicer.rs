//! Points of 3D Slicer: fiducials in text (`.fcsv`), markups in JSON (`.mrk.json`).

use serde_json::{Value, json};

use crate::error::Problem;

type Result<T> = std::result::Result<T, Problem>;

/// The columns of fiducials that do not name theirs.
pub(super) const COLUMNS: &str = "id,x,y,z";

/// The lines of comments before the fiducials; `None` for other files.
pub(super) fn comments(text: &str) -> Option<Vec<String>> {
    let first = text.lines().next()?;
    let begins = first.starts_with('#') && first.contains("Markups fiducial file");
    begins.then(|| {
        let lines = text.lines().filter(|line| line.starts_with('#'));
        lines.map(|line| line.trim_end().to_owned()).collect()
    })
}

/// The value of `# name = value`.
pub(super) fn entry<'a>(comments: &'a [String], name: &str) -> Option<&'a str> {
    comments.iter().find_map(|line| {
        let (found, value) = line.trim_start_matches('#').split_once('=')?;
        found.trim().eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// The signs of the coordinates of a system in LPS, which are those of LPS in it.
pub(super) fn signs<const D: usize>(system: &str) -> Result<[f64; D]> {
    let signs = match system.to_ascii_uppercase().as_str() {
        "LPS" | "1" => [1.0, 1.0],
        "RAS" | "0" => [-1.0, -1.0],
        _ => {
            return Err(Problem::content(
                "coordinate system of points",
                "LPS (1) or RAS (0)",
                system,
            ));
        }
    };
    Ok(std::array::from_fn(|a| signs.get(a).copied().unwrap_or(1.0)))
}

/// A position in the other system. No zero gets a sign.
pub(super) fn turned<const D: usize>(position: [f64; D], signs: [f64; D]) -> [f64; D] {
    std::array::from_fn(|a| signs[a] * position[a] + 0.0)
}

/// Markups, of one list of points or several.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Markups<const D: usize> {
    whole: Value,
    /// The list of each point, its number there, and the signs of the list.
    points: Vec<(usize, usize, [f64; D])>,
}

impl<const D: usize> Markups<D> {
    pub(super) fn parse(text: &str) -> Result<(Self, Vec<[f64; D]>)> {
        let whole: Value = serde_json::from_str(text)
            .map_err(|error| Problem::content("points", "markups of Slicer in JSON", error))?;
        let (mut points, mut positions) = (Vec::new(), Vec::new());
        let missing =
            |what: &str| Problem::content("markups of Slicer", "lists of control points", what);
        let lists = whole["markups"].as_array().ok_or_else(|| missing("no \"markups\""))?;
        for (k, list) in lists.iter().enumerate() {
            let signs = signs(list["coordinateSystem"].as_str().unwrap_or("LPS"))?;
            let units = &list["coordinateUnits"];
            if !(units.is_null() || units == "mm") {
                return Err(Problem::content("coordinateUnits", "\"mm\"", units));
            }
            let found = list["controlPoints"].as_array();
            for (n, point) in
                found.ok_or_else(|| missing("no \"controlPoints\""))?.iter().enumerate()
            {
                let coordinate = |a: usize| point["position"].get(a).and_then(Value::as_f64);
                let mut position = [0.0; D];
                for a in 0..D {
                    position[a] = coordinate(a).ok_or_else(|| {
                        let found = format!("{} (point {n} of list {k})", point["position"]);
                        Problem::content("position of a point", "as many numbers as axes", found)
                    })?;
                }
                points.push((k, n, signs));
                positions.push(turned(position, signs));
            }
        }
        Ok((Self { whole, points }, positions))
    }

    /// What the points are called.
    pub(super) fn labels(&self) -> Vec<String> {
        let label = |&(k, n, _): &(usize, usize, [f64; D])| {
            let label = &self.whole["markups"][k]["controlPoints"][n]["label"];
            label.as_str().unwrap_or_default().to_owned()
        };
        self.points.iter().map(label).collect()
    }

    /// The same file with other positions.
    pub(super) fn text(&self, positions: &[[f64; D]]) -> Result<String> {
        let mut whole = self.whole.clone();
        for (&(k, n, signs), &position) in self.points.iter().zip(positions) {
            for (a, x) in turned(position, signs).into_iter().enumerate() {
                whole["markups"][k]["controlPoints"][n]["position"][a] = json!(x);
            }
        }
        serde_json::to_string_pretty(&whole)
            .map_err(|error| Problem::content("points", "markups that JSON can hold", error))
    }
}

#[cfg(test)]
mod tests {
    use crate::points::Points;

    const HEAD: &str = "# Markups fiducial file version = 4.11\n# CoordinateSystem = SYSTEM\n\
                        # columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID\n";
    const LPS: [[f64; 3]; 2] = [[10.0, 20.0, 30.0], [-5.5, 0.0, 3.0]];

    fn fiducials(system: &str, signs: [f64; 3]) -> String {
        let row = |[x, y, z]: [f64; 3]| {
            let [x, y, z] = [signs[0] * x + 0.0, signs[1] * y + 0.0, signs[2] * z + 0.0];
            format!("id,{x},{y},{z},0,0,0,1,1,1,0,F-1,,\n")
        };
        format!("{}{}{}", HEAD.replace("SYSTEM", system), row(LPS[0]), row(LPS[1]))
    }

    fn markups(system: &str, signs: [f64; 3]) -> String {
        let point = |p: [f64; 3]| {
            let p: Vec<f64> = p.iter().zip(signs).map(|(x, s)| s * x + 0.0).collect();
            format!("{{\"id\":\"1\",\"label\":\"F-1\",\"position\":{p:?}}}")
        };
        format!(
            "{{\"markups\":[{{\"type\":\"Fiducial\",{system}\"controlPoints\":[{},{}]}}]}}",
            point(LPS[0]),
            point(LPS[1])
        )
    }

    #[test]
    fn the_system_that_a_file_names_is_turned_into_lps_and_back() {
        let (lps, ras) = ([1.0; 3], [-1.0, -1.0, 1.0]);
        let folder = tempfile::tempdir().unwrap();
        let mut cases = Vec::new();
        for (system, signs) in [("LPS", lps), ("1", lps), ("RAS", ras), ("0", ras)] {
            cases.push(("p.fcsv", fiducials(system, signs), "q.fcsv"));
        }
        for (system, signs) in [
            ("", lps),
            ("\"coordinateSystem\":\"LPS\",\"coordinateUnits\":\"mm\",", lps),
            ("\"coordinateSystem\":\"RAS\",", ras),
        ] {
            cases.push(("p.mrk.json", markups(system, signs), "q.mrk.json"));
        }
        for (name, text, same) in cases {
            let path = folder.path().join(name);
            std::fs::write(&path, &text).unwrap();
            let mut points = Points::<3>::read(&path).unwrap();
            assert_eq!(points.positions(), LPS, "{text}");
            let (same, plain) = (folder.path().join(same), folder.path().join("q.csv"));
            points.write(&same).unwrap();
            assert_eq!(Points::<3>::read(&same).unwrap(), points, "{text}");
            points.write(&plain).unwrap();
            let expected = "x,y,z,t,comment\n10,20,30,0,F-1\n-5.5,0,3,0,F-1\n";
            assert_eq!(std::fs::read_to_string(&plain).unwrap(), expected);
            // Twelve to the left is minus twelve to the right.
            points.set_positions(vec![[12.0, 0.0, 0.0]; 2]).unwrap();
            points.write(&same).unwrap();
            let turned = text.contains("RAS") || text.contains("System = 0");
            let written = std::fs::read_to_string(&same).unwrap();
            assert!(written.contains(if turned { "-12" } else { "12" }), "{written}");
            assert_eq!(written.contains("-12"), turned, "{written}");
            let found = Points::<3>::read(&same).unwrap().positions()[1];
            assert_eq!(found.map(f64::to_bits), [12.0, 0.0, 0.0].map(f64::to_bits));
        }
    }

    #[test]
    fn what_cannot_be_placed_is_refused() {
        let ijk = fiducials("2", [1.0; 3]);
        for (text, part) in [
            (ijk.as_str(), "LPS (1) or RAS (0), found 2"),
            ("{\"markups\":[{\"coordinateSystem\":\"IJK\",\"controlPoints\":[]}]}", "IJK"),
            ("{\"markups\":[{\"coordinateUnits\":\"um\",\"controlPoints\":[]}]}", "um"),
            (
                "{\"markups\":[{\"controlPoints\":[{\"position\":[1,2]}]}]}",
                "[1,2] (point 0 of list 0)",
            ),
            ("{\"markups\":[{}]}", "controlPoints"),
            ("{}", "markups"),
            ("{", "JSON"),
            (
                "# Markups fiducial file version = 4.11\n# columns = id,x,y,z\n1,2,3\n",
                "3 on line 3, not 4",
            ),
            ("# Markups fiducial file version = 4.11\n1,2,a,4\n", "\"a\" (line 2, column 3)"),
        ] {
            let error = Points::<3>::parse(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
        let marked = Points::<3>::parse("#x,y,z\n1,2,3\n").unwrap();
        assert_eq!(marked.positions(), [[1.0, 2.0, 3.0]]);
    }
}
