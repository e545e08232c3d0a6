//! The cluster of a model class, found once per class.

use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
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

/// A site has some hundred models. A power of two.
const SLOTS: usize = 4096;
/// Enough room left that a search soon finds an empty slot.
const MOST: usize = SLOTS / 4 * 3;

/// Places by the address of the class, in a table that only grows, so that looking up takes neither lock nor count.
///
/// The classes are kept alive, so that no other can get the address of one. When the table is full, or for a model of
/// which there may be any number, places are found anew for each question.
#[derive(Debug)]
pub struct ModelCache {
    slots: Box<[Slot]>,
    classes: Mutex<Vec<Py<PyAny>>>,
}

/// Empty while the address is 0.
#[derive(Debug, Default)]
struct Slot {
    address: AtomicUsize,
    place: AtomicUsize,
}

impl Default for ModelCache {
    fn default() -> Self {
        Self { slots: (0..SLOTS).map(|_| Slot::default()).collect(), classes: Mutex::default() }
    }
}

impl ModelCache {
    /// The slots where `address` may be, in the order of the search. Fibonacci hashing (Knuth, The Art of Computer
    /// Programming, volume 3, section 6.4): addresses are multiples of 16 and need no protection against chosen keys.
    #[inline]
    fn search(&self, address: usize) -> impl Iterator<Item = &Slot> {
        let mixed = (address as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (64 - SLOTS.trailing_zeros());
        #[expect(clippy::cast_possible_truncation, reason = "below SLOTS")]
        let first = mixed as usize;
        (first..first + SLOTS).map(|number| &self.slots[number % SLOTS])
    }

    #[inline]
    pub fn get(&self, address: usize) -> Option<Place> {
        for slot in self.search(address) {
            match slot.address.load(Ordering::Acquire) {
                found if found == address => return Some(Place::unpacked(slot.place.load(Ordering::Relaxed))),
                0 => return None,
                _ => {}
            }
        }
        None
    }

    pub fn insert(&self, class: Py<PyAny>, place: Place) {
        let address = class.as_ptr() as usize;
        let mut classes = self.classes.lock();
        if classes.len() == MOST || self.get(address).is_some() {
            // Dropping a reference may run Python, which may ask for a place.
            drop(classes);
            return;
        }
        let empty = self.search(address).find(|slot| slot.address.load(Ordering::Relaxed) == 0);
        let empty = empty.expect("fewer classes than slots");
        empty.place.store(place.packed(), Ordering::Relaxed);
        empty.address.store(address, Ordering::Release);
        classes.push(class);
    }
}

impl Place {
    fn packed(self) -> usize {
        usize::from(self.exempt) | self.cluster.map_or(0, |index| (index + 1) << 1)
    }

    #[inline]
    fn unpacked(packed: usize) -> Self {
        Self { cluster: (packed >> 1).checked_sub(1), exempt: packed & 1 == 1 }
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
