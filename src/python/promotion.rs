//! Servers that have swapped their aliases.

use std::collections::HashMap;

use pyo3::prelude::*;

use crate::alias::Alias;
use crate::member::Member;

use super::{clock, errors, table};

/// The server behind each of these aliases of one cluster is now the one that was behind the alias it is mapped to; the
/// other members keep theirs.
#[pyfunction]
#[expect(clippy::needless_pass_by_value, reason = "PyO3 extracts a dictionary as a map")]
pub fn servers_swapped(py: Python<'_>, primary: &str, sources: HashMap<String, String>) -> PyResult<()> {
    let table = table::in_force(py)?;
    let Some(&(index, _)) = table.places.get(primary) else { return Ok(()) };
    let cluster = &table.entries[index].cluster;
    let member = |alias: &str| table.places.get(alias).filter(|place| place.0 == index).map(|&(_, member)| member);
    let source =
        |(own, &alias): (Member, &Alias)| sources.get(table.name(alias)).and_then(|name| member(name)).unwrap_or(own);
    let places: Vec<Member> = (0..).zip(cluster.members()).map(source).collect();
    let mut sorted = places.clone();
    sorted.sort_unstable();
    if (0..).zip(&sorted).any(|(place, &member)| place != member) {
        return Err(errors::one_server_twice(primary));
    }
    cluster.servers_swapped(&places, clock::now());
    Ok(())
}
