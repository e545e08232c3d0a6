//! The locks and atomics of state that several threads change, so that a test can try every interleaving (`make
//! model`).

#[cfg(not(all(loom, test)))]
pub use parking_lot::Mutex;
#[cfg(not(all(loom, test)))]
pub use std::sync::atomic::{AtomicBool, AtomicU64};

#[cfg(all(loom, test))]
pub use loom::sync::atomic::{AtomicBool, AtomicU64};
#[cfg(all(loom, test))]
pub use modelled::Mutex;

#[cfg(all(loom, test))]
mod modelled {
    /// Loom's, with the face of `parking_lot`'s.
    #[derive(Debug, Default)]
    pub struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        /// As `parking_lot`'s.
        pub fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        /// As `parking_lot`'s.
        pub fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
            self.0.lock().expect("a model ends with the first panic")
        }
    }
}
