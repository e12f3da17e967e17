//! Aside: secrets, files that only who holds a key can read. The format is that of age, <https://age-encryption.org/v1>.
//! Pure, but for the randomness that sealing needs; it knows nothing of the house.
//!
//! What a header says of whom a file is for ([`Header`]) is read without any key, so that a fleet can be checked where
//! nobody has one. [`Identity`] opens, [`seal`] seals; both are the crate `age`'s, by the feature `secrets`.

#[cfg(feature = "secrets")]
mod age;
mod error;
mod header;
#[cfg(not(feature = "secrets"))]
mod no_age;
mod plain;
mod recipient;

#[cfg(not(feature = "secrets"))]
use no_age as age;

pub use age::{Identity, seal};
pub use error::Locked;
pub use header::Header;
pub use plain::Plain;
pub use recipient::Recipient;

/// Whether this trueup was built with what opens secrets.
pub const SUPPORTED: bool = cfg!(feature = "secrets");

/// How the name of a secret ends in a tree.
pub const SUFFIX: &str = ".age";

/// Whatever opens secrets: the keys of a host, or a test's.
pub trait Keys: std::fmt::Debug + Sync {
    /// What `sealed` holds.
    ///
    /// # Errors
    /// Why it cannot be read here.
    fn open(&self, sealed: &[u8]) -> Result<Plain, Locked>;

    /// `plain` as only these keys can read it.
    ///
    /// # Errors
    /// Where there are none.
    fn seal(&self, plain: &[u8]) -> Result<Vec<u8>, Locked>;
}
