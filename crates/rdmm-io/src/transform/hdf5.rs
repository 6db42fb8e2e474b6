//! Transforms in HDF5, as ITK writes them: a group for each in `TransformGroup`, numbered, with the name of the class and
//! two vectors.

use std::path::Path;

use hdf5_reader::Hdf5File;
use hdf5_reader::dataset::Dataset;
use hdf5_reader::group::Group;

use super::classes::Record;
use crate::error::Problem;

type Result<T> = std::result::Result<T, Problem>;

/// The transforms of a file, as they stand there.
pub(super) fn records(path: &Path) -> Result<Vec<Record>> {
    let file = Hdf5File::from_vec(std::fs::read(path)?).map_err(refused)?;
    let mut groups: Vec<(usize, Group)> = Vec::new();
    for group in file.group("TransformGroup").and_then(|group| group.groups()).map_err(refused)? {
        let name = group.name().rsplit('/').next().unwrap_or_default();
        let number = name.parse();
        let expected = "numbers as names of the transforms";
        let number = number.map_err(|_| Problem::content("transform in HDF5", expected, name))?;
        groups.push((number, group));
    }
    // In HDF5 10 comes before 2.
    groups.sort_by_key(|(number, _)| *number);
    groups.iter().map(|(_, group)| record(group)).collect()
}

fn record(group: &Group) -> Result<Record> {
    let name =
        group.dataset("TransformType").and_then(|name| name.read_string()).map_err(refused)?;
    let (_, names) = group.member_names().map_err(refused)?;
    // ITK before 5.0 left out an s.
    let numbers = |spellings: [&str; 2]| {
        let found =
            spellings.into_iter().find(|spelling| names.iter().any(|name| name == spelling));
        found.map_or(Ok(Vec::new()), |name| numbers(&group.dataset(name).map_err(refused)?))
    };
    Ok(Record {
        parameters: numbers(["TransformParameters", "TranformParameters"])?,
        fixed: numbers(["TransformFixedParameters", "TranformFixedParameters"])?,
        name,
    })
}

/// Numbers of either precision.
fn numbers(data: &Dataset) -> Result<Vec<f64>> {
    if data.raw_element_size().map_err(refused)? == 4 {
        let singles = data.read_array::<f32>().map_err(refused)?;
        return Ok(singles.iter().map(|&x| f64::from(x)).collect());
    }
    Ok(data.read_array::<f64>().map_err(refused)?.iter().copied().collect())
}

fn refused(error: hdf5_reader::error::Error) -> Problem {
    Problem::content("transform in HDF5", "a whole file of ITK: copy it again", error)
}
