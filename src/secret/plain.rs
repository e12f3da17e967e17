use std::fmt;
use std::ops::Deref;

use zeroize::Zeroizing;

/// What a secret holds. It is overwritten before its memory is given back, and nothing prints it.
#[derive(Clone)]
pub struct Plain(Zeroizing<Vec<u8>>);

impl From<Vec<u8>> for Plain {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }
}

impl Deref for Plain {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Plain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Plain(…)")
    }
}
