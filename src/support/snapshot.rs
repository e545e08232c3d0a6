//! A value that is replaced whole now and then, and read all the time.
//!
//! A lock, or a count of the readers, makes every reader write to memory that all readers share. Here a reader keeps
//! its own copy of the pointer and compares a version, which is written only when the value is replaced.
//! `arc_swap::Cache` would do the same; the few lines here use the atomics that the model checker replaces (`make
//! model`), and spare a dependency.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::support::sync::{AtomicU64, Mutex};

/// A value that is replaced whole.
#[derive(Debug)]
pub struct Shared<T> {
    version: AtomicU64,
    /// Held to copy or to replace the pointer, never longer.
    value: Mutex<Arc<T>>,
}

impl<T> Shared<T> {
    /// The first value.
    #[must_use]
    pub fn new(value: Arc<T>) -> Self {
        Self { version: AtomicU64::new(0), value: Mutex::new(value) }
    }

    /// The present value.
    #[must_use]
    pub fn load(&self) -> Arc<T> {
        self.value.lock().clone()
    }

    /// Replaces the value; returns the one before.
    pub fn swap(&self, value: Arc<T>) -> Arc<T> {
        let before = std::mem::replace(&mut *self.value.lock(), value);
        // After the value: a reader that sees the new version finds this value or a later one.
        self.version.fetch_add(1, Ordering::Release);
        before
    }
}

/// One reader's copy of a [`Shared`] value.
#[derive(Debug)]
pub struct Kept<T> {
    version: u64,
    value: Arc<T>,
}

impl<T> Kept<T> {
    /// A copy of the present value.
    pub fn new(shared: &Shared<T>) -> Self {
        // Before the value: if the value is replaced in between, the next check copies it again.
        let version = shared.version.load(Ordering::Acquire);
        Self { version, value: shared.load() }
    }

    /// The present value of `shared`, which must be the one this is a copy of.
    #[inline]
    pub fn refreshed(&mut self, shared: &Shared<T>) -> &T {
        if !self.is_present(shared) {
            *self = Self::new(shared);
        }
        &self.value
    }

    /// Whether the copy is of the present value.
    #[inline]
    #[must_use]
    pub fn is_present(&self, shared: &Shared<T>) -> bool {
        self.version == shared.version.load(Ordering::Acquire)
    }

    /// The value that was copied.
    #[inline]
    #[must_use]
    pub fn value(&self) -> &T {
        &self.value
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_copy_follows_the_value() {
        let shared = Shared::new(Arc::new(1));
        let mut kept = Kept::new(&shared);
        assert_eq!(*kept.refreshed(&shared), 1);
        assert_eq!(*shared.swap(Arc::new(2)), 1);
        assert!(!kept.is_present(&shared));
        assert_eq!((*kept.refreshed(&shared), *shared.load()), (2, 2));
    }

    #[test]
    fn a_value_that_was_seen_never_goes_back() {
        let shared = Shared::new(Arc::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let (mut kept, mut before) = (Kept::new(&shared), 0);
                    while before < 1000 {
                        let seen = *kept.refreshed(&shared);
                        assert!(seen >= before);
                        before = seen;
                    }
                });
            }
            (1..=1000).for_each(|value| drop(shared.swap(Arc::new(value))));
        });
    }
}
