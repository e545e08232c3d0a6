//! The cluster of a model class, found once per class and thread.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use pyo3::intern;
use pyo3::prelude::*;

use crate::routing::model_map::{ClusterIndex, Label};

/// The place of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its cluster.
    pub cluster: Option<ClusterIndex>,
    /// Whether it is always read from the primary.
    pub exempt: bool,
}

/// The most classes that one thread keeps. A site has some hundred models; where models are made at run time, there may be
/// any number.
const MOST: usize = 4096;

/// The places of the models that a thread has asked for, by the address of the class. The classes are kept alive, so that
/// no other class can get the address of one.
#[derive(Debug, Default)]
pub struct ModelCache(HashMap<usize, (Place, Py<PyAny>), BuildHasherDefault<AddressHasher>>);

impl ModelCache {
    /// The place of the class at `address`.
    #[inline]
    pub fn get(&self, address: usize) -> Option<Place> {
        self.0.get(&address).map(|&(place, _)| place)
    }

    /// Keeps the place of `class`, unless there are too many.
    pub fn insert(&mut self, class: &Bound<'_, PyAny>, place: Place) {
        if self.0.len() < MOST {
            self.0.insert(class.as_ptr() as usize, (place, class.clone().unbind()));
        }
    }
}

/// Fibonacci hashing (Knuth, The Art of Computer Programming, volume 3, section 6.4): addresses are multiples of 16 and
/// need no protection against chosen keys.
#[derive(Debug, Default)]
struct AddressHasher(u64);

impl Hasher for AddressHasher {
    #[inline]
    fn write_usize(&mut self, address: usize) {
        let mixed = (address as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        // The map uses the lowest and the highest bits; a product is mixed best in the highest.
        self.0 = mixed.rotate_left(26);
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_usize(usize::from(byte));
        }
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
}

/// The labels of a model: its own; that of its concrete model (whose table it reads); and, for the table of a
/// many-to-many field, that of the model that declares the field. An object that is no model has none.
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
    // The model-like object of the database cache has only these two.
    let model: Option<String> = meta.getattr_opt(intern!(py, "model_name"))?.and_then(|name| name.extract().ok());
    Ok(Label::new(&app, model.as_deref()))
}
