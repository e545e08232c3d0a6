//! The cipher of tokens, as Python uses it.

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::support::cipher::{self, NONCE_BYTES};

/// Encrypts and authenticates texts under one key: XChaCha20-Poly1305, the key by HKDF-SHA256.
#[pyclass(frozen, module = "replicant._core")]
pub struct Cipher(cipher::Cipher);

#[pymethods]
impl Cipher {
    #[new]
    fn new(secret: &[u8], purpose: &[u8]) -> Self {
        Self(cipher::Cipher::derived(secret, purpose))
    }

    /// Encrypts `text`; the tag at its end authenticates `header`, too.
    fn seal<'py>(&self, py: Python<'py>, nonce: [u8; NONCE_BYTES], header: &[u8], text: &[u8]) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.seal(&nonce, header, text))
    }

    /// The text that was sealed so; None if any of this is not as it was then.
    fn open<'py>(
        &self,
        py: Python<'py>,
        nonce: [u8; NONCE_BYTES],
        header: &[u8],
        sealed: &[u8],
    ) -> Option<Bound<'py, PyBytes>> {
        self.0.open(&nonce, header, sealed).map(|text| PyBytes::new(py, &text))
    }
}
