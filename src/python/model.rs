//! Where a model class belongs, found once per class.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use arc_swap::ArcSwap;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyType;

use crate::models::{ClusterIndex, Label};

use super::state::Table;

/// Where a model belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its cluster.
    pub cluster: Option<ClusterIndex>,
    /// Whether it is always read from the primary.
    pub exempt: bool,
}

/// A site has some hundred models; migrations make and forget thousands of historical ones.
const MOST: usize = 4096;

type Places = HashMap<usize, (Py<PyAny>, Place), BuildHasherDefault<AddressHasher>>;

/// Addresses need no protection against chosen keys, and the default hasher would cost as much as the rest of the
/// look-up: Fibonacci hashing (Knuth, The Art of Computer Programming, volume 3, section 6.4).
#[derive(Debug, Default)]
struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_usize(usize::from(byte));
        }
    }

    #[inline]
    fn write_usize(&mut self, address: usize) {
        // The table takes its index from the low bits and its tag from the high ones: both must vary.
        self.0 = (self.0 ^ address as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(32);
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
}

/// Places by the address of the class. The class is kept alive, so that no other can get its address.
#[derive(Debug, Default)]
pub struct ModelCache(ArcSwap<Places>);

impl Table {
    /// Where `model` belongs.
    #[inline]
    pub fn place(&self, model: &Bound<'_, PyAny>) -> PyResult<Place> {
        if let Some((_, place)) = self.cache.0.load().get(&(model.as_ptr() as usize)) {
            return Ok(*place);
        }
        self.find_place(model)
    }

    #[cold]
    fn find_place(&self, model: &Bound<'_, PyAny>) -> PyResult<Place> {
        let place = self.place_of(&labels(model)?);
        if model.is_instance_of::<PyType>() {
            let py = model.py();
            let places = self.cache.0.load();
            let kept = places.iter().filter(|_| places.len() < MOST);
            let mut grown: Places = kept.map(|(key, (class, place))| (*key, (class.clone_ref(py), *place))).collect();
            grown.insert(model.as_ptr() as usize, (model.clone().unbind(), place));
            // Of two threads that add at once one may be lost, and is found again when next asked for.
            self.cache.0.store(Arc::new(grown));
        }
        Ok(place)
    }

    /// Where the model that goes by `labels` (the first being its own) belongs.
    pub fn place_of(&self, labels: &[Label]) -> Place {
        // A proxy's rows are its concrete model's, wherever the proxy's own app lives.
        let cluster = self.models.home(if labels.len() > 1 { &labels[1..] } else { labels });
        Place { cluster, exempt: cluster.is_some_and(|cluster| self.models.is_exempt(cluster, labels)) }
    }
}

/// The labels a model goes by: its own; those of its concrete model (whose table it reads) and, for the table of a
/// many-to-many field, of the model that declares the field. Something that is no model has none.
pub fn labels(model: &Bound<'_, PyAny>) -> PyResult<Vec<Label>> {
    let py = model.py();
    let Some(meta) = model.getattr_opt(intern!(py, "_meta"))? else { return Ok(Vec::new()) };
    let mut labels = vec![label(&meta)?];
    let concrete = meta.getattr_opt(intern!(py, "concrete_model"))?.filter(|concrete| !concrete.is_none());
    let concrete = concrete.map_or(Ok(meta), |concrete| concrete.getattr(intern!(py, "_meta")))?;
    labels.push(label(&concrete)?);
    if let Some(declaring) = concrete.getattr_opt(intern!(py, "auto_created"))?
        && declaring.is_truthy()?
    {
        labels.push(label(&declaring.getattr(intern!(py, "_meta"))?)?);
    }
    Ok(labels)
}

fn label(meta: &Bound<'_, PyAny>) -> PyResult<Label> {
    let py = meta.py();
    let app: String = meta.getattr(intern!(py, "app_label"))?.extract()?;
    // The database cache's stand-in for a model has no more than these two.
    let model: Option<String> = meta.getattr_opt(intern!(py, "model_name"))?.and_then(|name| name.extract().ok());
    Ok(Label::new(&app, model.as_deref()))
}
