//! Points and landmarks: columns of text, as ANTs keeps them, and the files of 3D Slicer (`.fcsv`, `.mrk.json`).
//!
//! Coordinates are in the world of the images, LPS millimetres; those of ANTs' `antsApplyTransformsToPoints`
//! are so too, while FreeSurfer and NIfTI's own world are RAS: turn the signs of x and y. Slicer's files name
//! their system, and are turned from it and, where they are written as they were, into it.
//!
//! Which way points go: a transform pulls an image back, so it takes points of the fixed image to the moving
//! image. A list of transforms that resamples the moving image onto the fixed one therefore carries points of
//! the *fixed* image to the moving one, unchanged. Points of the *moving* image are carried to the fixed one by
//! the inverse ([`Chain::inverse`](crate::Chain::inverse)): the list in reverse order, each transform inverted.
//! This is ANTs' rule too.

use std::path::Path;

use self::slicer::Markups;
use crate::atomic;
use crate::error::{Problem, Result};
use crate::name::has_ending;

mod slicer;

/// The names of coordinates in a header, in any case.
const NAMES: [&str; 3] = ["x", "y", "z"];

/// What stands between the columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Separator {
    Character(u8),
    /// Any number of spaces and tabs, written as one space.
    Space,
}

/// Points of D coordinates with whatever else their rows hold.
///
/// ```
/// use rdmm_io::points::Points;
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("points.csv");
/// std::fs::write(&path, "x,y,z,t,label\n1.5,-2,30,0,apex\n").unwrap();
/// let mut points = Points::<3>::read(&path)?;
/// assert_eq!(points.positions(), [[1.5, -2.0, 30.0]]);
/// points.set_positions(vec![[1.0, -2.0, 31.0]])?;
/// points.write(&path)?;
/// assert_eq!(std::fs::read_to_string(&path).unwrap(), "x,y,z,t,label\n1,-2,31,0,apex\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Points<const D: usize> {
    kept: Kept<D>,
    positions: Vec<[f64; D]>,
}

/// What else a file holds.
#[derive(Clone, Debug, PartialEq)]
enum Kept<const D: usize> {
    Table(Table<D>),
    /// A `.fcsv` of Slicer: a table after lines of comments, and the signs that turn its coordinates into LPS.
    Fiducials(Vec<String>, Table<D>, [f64; D]),
    /// A `.mrk.json` of Slicer.
    Markups(Markups<D>),
}

/// Rows of cells.
#[derive(Clone, Debug, PartialEq)]
struct Table<const D: usize> {
    header: Option<Vec<String>>,
    /// All cells, those of the coordinates too.
    rows: Vec<Vec<String>>,
    /// Where the coordinates are.
    columns: [usize; D],
    separator: Separator,
}

impl<const D: usize> Points<D> {
    /// Points with nothing else, in ANTs' columns: x, y, z, t, of which those that they have not are zero.
    #[must_use]
    pub fn new(positions: Vec<[f64; D]>) -> Self {
        let header = ["x", "y", "z", "t"].map(str::to_owned).to_vec();
        let rows = vec![vec!["0".to_owned(); header.len().max(D)]; positions.len()];
        let columns = std::array::from_fn(|a| a);
        let separator = Separator::Character(b',');
        Self {
            kept: Kept::Table(Table { header: Some(header), rows, columns, separator }),
            positions,
        }
    }

    /// Reads points.
    ///
    /// The first row may name the columns: then those named x, y (and z in 3-D) hold the coordinates. Without
    /// names the first D columns do. Columns are separated by commas, semicolons, tabs or spaces, whichever
    /// of these comes first in that order in the first row. Fiducials and markups of Slicer are known by their
    /// content. Whatever else a file holds is kept for [`Points::write`].
    ///
    /// # Errors
    /// [`Problem::Content`] with line and column for a cell that is not a finite number, a row of another
    /// length than the first, names without coordinates, and coordinates of Slicer that are neither LPS nor RAS.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let read = || Self::parse(&std::fs::read_to_string(path)?);
        read().map_err(|problem: Problem| problem.at(path))
    }

    fn parse(text: &str) -> std::result::Result<Self, Problem> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        if text.trim_start().starts_with('{') {
            let (markups, positions) = Markups::parse(text)?;
            return Ok(Self { kept: Kept::Markups(markups), positions });
        }
        if let Some(comments) = slicer::comments(text) {
            let signs =
                slicer::signs(slicer::entry(&comments, "CoordinateSystem").unwrap_or("RAS"))?;
            let names = slicer::entry(&comments, "columns").unwrap_or(slicer::COLUMNS);
            let columns = columns(&names.split(',').map(str::to_owned).collect::<Vec<_>>())?;
            let rows: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
            let (rows, separator) = (rows.join("\n"), Separator::Character(b','));
            let before = comments.len() as u64;
            let (table, mut positions) = Table::parse(&rows, before, separator, Some(columns))?;
            for position in &mut positions {
                *position = slicer::turned(*position, signs);
            }
            return Ok(Self { kept: Kept::Fiducials(comments, table, signs), positions });
        }
        let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
        let separator = match [',', ';', '\t'].into_iter().find(|&c| first.contains(c)) {
            Some(',') => Separator::Character(b','),
            Some(';') => Separator::Character(b';'),
            Some(_) => Separator::Character(b'\t'),
            None => Separator::Space,
        };
        let (table, positions) = Table::parse(text, 0, separator, None)?;
        Ok(Self { kept: Kept::Table(table), positions })
    }

    /// The points, in the order of the rows.
    #[must_use]
    pub fn positions(&self) -> &[[f64; D]] {
        &self.positions
    }

    /// The same rows with other coordinates.
    ///
    /// # Errors
    /// [`Error::Length`](rdmm_core::Error::Length) unless there are as many as rows.
    pub fn set_positions(&mut self, positions: Vec<[f64; D]>) -> rdmm_core::Result<()> {
        let (expected, found) = (self.positions.len(), positions.len());
        if expected != found {
            return Err(rdmm_core::Error::Length { what: "points", expected, found });
        }
        self.positions = positions;
        Ok(())
    }

    /// Writes the points: header, columns and separator as they were read, coordinates with as many digits as
    /// they need to be read back to the bit.
    ///
    /// What was read from a file of Slicer is written as such, in the system that it names, where the ending of the
    /// name is that of the file (`.fcsv`, `.json`); under other names as columns in LPS, with the labels as comments.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        match &self.kept {
            Kept::Table(table) => atomic::write(path, |file| table.write(file, &self.positions)),
            Kept::Fiducials(comments, table, signs) if has_ending(path, ".fcsv") => {
                let positions: Vec<_> =
                    self.positions.iter().map(|&x| slicer::turned(x, *signs)).collect();
                atomic::write(path, |file| {
                    comments.iter().try_for_each(|line| writeln!(file, "{line}"))?;
                    table.write(file, &positions)
                })
            }
            Kept::Markups(markups) if has_ending(path, ".json") => {
                let text = markups.text(&self.positions).map_err(|problem| problem.at(path))?;
                atomic::write(path, |file| file.write_all(text.as_bytes()))
            }
            Kept::Fiducials(comments, table, _) => {
                let names = slicer::entry(comments, "columns").unwrap_or(slicer::COLUMNS);
                let column = names.split(',').position(|name| name.trim() == "label");
                let label = |row: &Vec<String>| column.and_then(|at| row.get(at)).cloned();
                let labels: Vec<_> =
                    table.rows.iter().map(|row| label(row).unwrap_or_default()).collect();
                self.write_columns(path, &labels)
            }
            Kept::Markups(markups) => self.write_columns(path, &markups.labels()),
        }
    }

    /// ANTs' columns, with a comment a row.
    fn write_columns(&self, path: &Path, comments: &[String]) -> Result<()> {
        let mut plain = Self::new(self.positions.clone());
        if let Kept::Table(table) = &mut plain.kept {
            table.header.iter_mut().for_each(|names| names.push("comment".to_owned()));
            let rows = table.rows.iter_mut().zip(comments);
            rows.for_each(|(row, comment)| row.push(comment.clone()));
        }
        plain.write(path)
    }
}

impl<const D: usize> Table<D> {
    /// Rows and their positions, after `before` lines of the file. Without `columns` the first row may name them.
    fn parse(
        text: &str,
        before: u64,
        separator: Separator,
        columns: Option<[usize; D]>,
    ) -> std::result::Result<(Self, Vec<[f64; D]>), Problem> {
        let mut lines = cells(text, separator)?.into_iter().peekable();
        let named = |(_, cells): &(u64, Vec<String>)| {
            cells.first().is_some_and(|cell| cell.trim().parse::<f64>().is_err())
        };
        let (header, columns) = match columns {
            Some(columns) => (None, columns),
            None => match lines.next_if(named) {
                Some((_, names)) => {
                    let columns = self::columns(&names)?;
                    (Some(names), columns)
                }
                None => (None, std::array::from_fn(|a| a)),
            },
        };
        let least = columns.iter().max().map_or(0, |last| last + 1);
        let mut width = header.as_ref().map(Vec::len);
        let (mut rows, mut positions) = (Vec::new(), Vec::new());
        for (line, cells) in lines {
            let line = before + line;
            let expected = *width.get_or_insert(cells.len());
            if cells.len() != expected || cells.len() < least {
                let found = format!("{} on line {line}, not {}", cells.len(), expected.max(least));
                let wanted = "as many in every row, at least one a coordinate";
                return Err(Problem::content("columns of points", wanted, found));
            }
            let mut position = [0.0; D];
            for a in 0..D {
                position[a] = number(&cells[columns[a]], line, columns[a])?;
            }
            positions.push(position);
            rows.push(cells);
        }
        Ok((Self { header, rows, columns, separator }, positions))
    }

    fn write(&self, file: &mut dyn std::io::Write, positions: &[[f64; D]]) -> std::io::Result<()> {
        let mut rows = self.rows.clone();
        for (row, position) in rows.iter_mut().zip(positions) {
            for (column, x) in self.columns.iter().zip(position) {
                row[*column] = x.to_string();
            }
        }
        let lines = self.header.iter().chain(&rows);
        match self.separator {
            Separator::Space => {
                lines.into_iter().try_for_each(|row| writeln!(file, "{}", row.join(" ")))
            }
            Separator::Character(separator) => {
                let mut writer =
                    csv::WriterBuilder::new().delimiter(separator).flexible(true).from_writer(file);
                lines.into_iter().try_for_each(|row| writer.write_record(row))?;
                writer.flush()
            }
        }
    }
}

/// The cells of every row that is not empty, with its line.
fn cells(
    text: &str,
    separator: Separator,
) -> std::result::Result<Vec<(u64, Vec<String>)>, Problem> {
    let delimiter = match separator {
        Separator::Character(delimiter) => delimiter,
        Separator::Space => {
            let split = |line: &str| line.split_whitespace().map(str::to_owned).collect();
            let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
            return Ok(lines.map(|(number, line)| (number, split(line))).collect());
        }
    };
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .delimiter(delimiter)
        .from_reader(text.as_bytes());
    let row = |record: csv::Result<csv::StringRecord>| {
        let record =
            record.map_err(|error| Problem::content("points", "columns of text", error))?;
        let line = record.position().map_or(0, csv::Position::line);
        Ok((line, record.iter().map(str::to_owned).collect()))
    };
    reader.records().map(row).collect()
}

/// Where a header has the coordinates.
fn columns<const D: usize>(names: &[String]) -> std::result::Result<[usize; D], Problem> {
    let mut columns = [0; D];
    for (column, name) in columns.iter_mut().zip(NAMES) {
        // A header may be marked as a comment.
        let bare = |found: &String| found.trim_start_matches(['#', ' ']).trim().to_owned();
        let found = names.iter().position(|found| bare(found).eq_ignore_ascii_case(name));
        let missing = || {
            let expected = "columns x, y (and z in 3-D), or rows of numbers only";
            Problem::content("header of points", expected, names.join(", "))
        };
        *column = found.ok_or_else(missing)?;
    }
    Ok(columns)
}

fn number(cell: &str, line: u64, column: usize) -> std::result::Result<f64, Problem> {
    let number = cell.trim().parse().ok().filter(|x: &f64| x.is_finite());
    number.ok_or_else(|| {
        let found = format!("{cell:?} (line {line}, column {})", column + 1);
        Problem::content("coordinate of a point", "a finite number", found)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written<const D: usize>(points: &Points<D>) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("points.csv");
        points.write(&path).unwrap();
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn what_is_not_a_coordinate_is_kept() {
        let text = "label,X,Y,Z,comment\n007,1.50,2,3,\"left, upper\"\n1e3,-0.1,1e-7,4, spaced \n";
        let mut points = Points::<3>::parse(text).unwrap();
        assert_eq!(points.positions(), [[1.5, 2.0, 3.0], [-0.1, 1e-7, 4.0]]);
        points.set_positions(vec![[0.1 + 0.2, 2.0, 3.0], [-4.0, 5.0, 6.0]]).unwrap();
        let expected = "label,X,Y,Z,comment\n007,0.30000000000000004,2,3,\"left, upper\"\n\
                        1e3,-4,5,6, spaced \n";
        assert_eq!(written(&points), expected);
        assert!(points.set_positions(vec![]).is_err());
        // Two dimensions of the same file: z is an extra column.
        let points = Points::<2>::parse(text).unwrap();
        assert!(written(&points).contains("007,1.5,2,3,"));
    }

    #[test]
    fn plain_columns_are_read_with_any_separator() {
        for (text, expected) in [
            ("1,2,9\n3,4,8\n", "1,2,9\n3,4,8\n"),
            ("1;2\r\n3;4\r\n", "1;2\n3;4\n"),
            ("\u{feff}1\t2\n\n3\t4", "1\t2\n3\t4\n"),
            ("  1   2  a\n3 4\tb\n\n", "1 2 a\n3 4 b\n"),
            ("x y\n1 2\n3 4\n", "x y\n1 2\n3 4\n"),
        ] {
            let points = Points::<2>::parse(text).unwrap();
            assert_eq!(points.positions(), [[1.0, 2.0], [3.0, 4.0]], "{text:?}");
            assert_eq!(written(&points), expected);
        }
        assert!(Points::<3>::parse("").unwrap().positions().is_empty());
        assert!(Points::<3>::parse("x,y,z,t\n").unwrap().positions().is_empty());
    }

    #[test]
    fn new_points_have_the_columns_of_ants() {
        assert_eq!(written(&Points::new(vec![[1.0, 2.5]])), "x,y,z,t\n1,2.5,0,0\n");
        assert_eq!(written(&Points::new(vec![[1.0, 2.5, -3.0]])), "x,y,z,t\n1,2.5,-3,0\n");
    }

    #[test]
    fn errors_name_line_and_column() {
        for (text, part) in [
            ("x,y,z\n1,2,3\n1,two,3\n", "\"two\" (line 3, column 2)"),
            ("label,x,y,z\na,1,2,nan\n", "\"nan\" (line 2, column 4)"),
            ("1 2 3\n1 2 inf\n", "\"inf\" (line 2, column 3)"),
            ("x,y,z,t\n1,2,3\n", "3 on line 2, not 4"),
            ("1,2\n", "2 on line 1, not 3"),
            ("x,y\n1,2\n", "x, y"),
            ("R,A,S\n1,2,3\n", "R, A, S"),
        ] {
            let error = Points::<3>::parse(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text:?}: {error}");
        }
    }
}
