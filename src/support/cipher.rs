//! Encrypts and authenticates tokens: XChaCha20-Poly1305 under a key that HKDF-SHA256 derives from the site's secret.
//!
//! XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03) is chosen for its nonce of 24 bytes: processes that share no counter may
//! draw nonces at random and never repeat one. HKDF (RFC 5869) gives each purpose a key of its own, so that the key of the
//! tokens says nothing of the secret or of the keys that Django derives from it. Both come from `RustCrypto`; this module only
//! fixes how they are used.

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use hkdf::Hkdf;
use sha2::Sha256;

/// The length of a nonce, in bytes.
pub const NONCE_BYTES: usize = 24;
/// How many bytes a sealed text is longer than the text: the Poly1305 tag.
pub const TAG_BYTES: usize = 16;
/// The length of a key, in bytes.
const KEY_BYTES: usize = 32;

/// Seals texts under one key, and opens them.
pub struct Cipher(XChaCha20Poly1305);

impl Cipher {
    /// The cipher whose key is derived from `secret` for `purpose` (HKDF-SHA256 without a salt).
    #[must_use]
    pub fn derived(secret: &[u8], purpose: &[u8]) -> Self {
        Self::with_key(&derive_key(secret, purpose))
    }

    fn with_key(key: &[u8; KEY_BYTES]) -> Self {
        Self(XChaCha20Poly1305::new(&(*key).into()))
    }

    /// `text` encrypted, followed by a tag that authenticates it together with `header`, which travels in plain text.
    ///
    /// A nonce must never be used for two texts: draw it at random.
    #[must_use]
    #[expect(clippy::missing_panics_doc, reason = "never panics: the cipher refuses only texts of more than 256 GiB")]
    pub fn seal(&self, nonce: &[u8; NONCE_BYTES], header: &[u8], text: &[u8]) -> Vec<u8> {
        let payload = Payload { msg: text, aad: header };
        self.0.encrypt(&XNonce::from(*nonce), payload).expect("a text of less than 256 GiB")
    }

    /// The text that [`Cipher::seal`] sealed; `None` if the key, the nonce, the header or the sealed text is another one.
    #[must_use]
    pub fn open(&self, nonce: &[u8; NONCE_BYTES], header: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        self.0.decrypt(&XNonce::from(*nonce), Payload { msg: sealed, aad: header }).ok()
    }
}

fn derive_key(secret: &[u8], purpose: &[u8]) -> [u8; KEY_BYTES] {
    let mut key = [0; KEY_BYTES];
    Hkdf::<Sha256>::new(None, secret).expand(purpose, &mut key).expect("32 bytes are within the 8,160 that HKDF gives");
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8] = b"a secret key of a site";
    const PURPOSE: &[u8] = b"replicant.token";

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    fn counting_from<const N: usize>(first: u8) -> [u8; N] {
        std::array::from_fn(|place| first + u8::try_from(place).unwrap())
    }

    #[test]
    fn the_draft_of_xchacha20_poly1305_is_followed() {
        // draft-irtf-cfrg-xchacha-03, appendix A.3.1.
        let text = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.";
        let sealed = bytes(
            "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb731c7f1b0b4aa6440bf3a82f4eda7e39ae64c6708c54c216\
             cb96b72e1213b4522f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff921f9664c97637da9768812f615c68b13\
             b52ec0875924c1c7987947deafd8780acf49",
        );
        let header = bytes("50515253c0c1c2c3c4c5c6c7");
        let cipher = Cipher::with_key(&counting_from(0x80));
        assert_eq!(cipher.seal(&counting_from(0x40), &header, text), sealed);
        assert_eq!(cipher.open(&counting_from(0x40), &header, &sealed).unwrap(), text);
    }

    #[test]
    fn the_key_is_that_of_rfc_5869() {
        // Computed with Python's hmac module by the two steps of RFC 5869, section 2, with a salt of 32 zero bytes.
        let key = "9befa68c5263bec94097fbfa19459f37067c9267da7acc0b7bf04b0f3694f793";
        assert_eq!(derive_key(SECRET, PURPOSE).to_vec(), bytes(key));
    }

    #[test]
    fn a_derived_cipher_seals_as_libsodium_does() {
        // Computed with libsodium's crypto_aead_xchacha20poly1305_ietf_encrypt under the key above.
        let sealed = bytes("6eaae05fda321e9fdcf092b6239b3a825952bbc4abd2039a527e5cb1c58a79d90424e9d47a858e");
        let (cipher, nonce) = (Cipher::derived(SECRET, PURPOSE), counting_from(0));
        assert_eq!(cipher.seal(&nonce, b"header", b"what the scope requires"), sealed);
        assert_eq!(sealed.len(), b"what the scope requires".len() + TAG_BYTES);
    }

    #[test]
    fn a_text_opens_only_as_it_was_sealed() {
        let (cipher, nonce) = (Cipher::derived(SECRET, PURPOSE), counting_from(0));
        let sealed = cipher.seal(&nonce, b"header", b"text");
        assert_eq!(cipher.open(&nonce, b"header", &sealed).unwrap(), b"text");
        assert!(cipher.open(&nonce, b"Header", &sealed).is_none());
        assert!(cipher.open(&counting_from(1), b"header", &sealed).is_none());
        assert!(Cipher::derived(SECRET, b"another purpose").open(&nonce, b"header", &sealed).is_none());
        assert!(Cipher::derived(b"another secret", PURPOSE).open(&nonce, b"header", &sealed).is_none());
        for place in 0..sealed.len() {
            for bit in 0..8 {
                let mut damaged = sealed.clone();
                damaged[place] ^= 1 << bit;
                assert!(cipher.open(&nonce, b"header", &damaged).is_none());
            }
            assert!(cipher.open(&nonce, b"header", &sealed[..place]).is_none());
        }
    }
}
