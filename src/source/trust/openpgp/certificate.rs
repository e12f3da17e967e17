use pgp::packet::{PublicKey, PublicSubkey, Signature, SignatureType, SubpacketData, UserId};
use pgp::ser::Serialize;
use pgp::types::{EcdsaPublicParams, EddsaLegacyPublicParams, KeyDetails, PublicParams, Tag};

use super::super::{Refusal, Times};
use super::packets::{check_hash, is_understood};
use crate::model::one_line;

/// The fewest bits of an RSA key that is believed.
const FEWEST_BITS: u16 = 2048;
/// How much of a user id is shown, in characters.
const SHOWN: usize = 200;
/// What makes a key say anew what it is.
const RENEW: &str = "renew it (gpg --quick-set-expire) and export it anew";

/// An OpenPGP key, and what it says of itself: only what its own signatures hold for is here.
#[derive(Debug, Clone)]
pub(super) struct Certificate {
    primary: PublicKey,
    /// Said of the key itself.
    direct: Vec<Statement>,
    users: Vec<User>,
    revoked: bool,
    subkeys: Vec<Subkey>,
}

/// Whose key it is.
#[derive(Debug, Clone)]
struct User {
    id: String,
    said: Vec<Statement>,
    revoked: bool,
}

/// A further key of a certificate.
#[derive(Debug, Clone)]
pub(super) struct Subkey {
    key: PublicSubkey,
    bindings: Vec<Statement>,
    revoked: bool,
}

/// What one signature by a key says of itself, or of its subkey.
#[derive(Debug, Clone, Copy)]
struct Statement {
    /// When it was made, in seconds since 1970.
    made: i64,
    /// When it ends to hold.
    ends: Option<i64>,
    /// How long the key lasts, in seconds from when that was made.
    lasts: Option<i64>,
    /// Whether the key may sign, where that is said.
    signs: Option<bool>,
    /// Whether the user id is the main one.
    main: bool,
    /// Whether it is understood, and over a hash that cannot be forged.
    sound: bool,
}

/// The part of a certificate that made a signature.
#[derive(Debug, Clone, Copy)]
pub(super) enum Signing<'a> {
    Primary(&'a PublicKey),
    Subkey(&'a Subkey),
}

impl Statement {
    /// What `signature`, which holds, says; `None` where it does not say when.
    fn of(signature: &Signature) -> Option<Self> {
        let made = i64::from(signature.created()?.as_secs());
        let seconds = |duration: Option<pgp::types::Duration>| {
            duration.map(|duration| i64::from(duration.as_secs())).filter(|seconds| *seconds > 0)
        };
        let says_what_for = |data: &SubpacketData| matches!(data, SubpacketData::KeyFlags(_));
        let flagged = signature.config()?.hashed_subpackets().any(|sub| says_what_for(&sub.data));
        Some(Self {
            made,
            ends: seconds(signature.signature_expiration_time()).map(|seconds| made + seconds),
            lasts: seconds(signature.key_expiration_time()),
            signs: flagged.then(|| signature.key_flags().sign()),
            main: signature.is_primary(),
            sound: is_understood(signature) && check_hash(signature).is_ok(),
        })
    }

    /// The one of `statements` that counts at `now`: the last one made.
    fn current(statements: &[Self], now: i64) -> Option<Self> {
        let holds = |statement: &&Self| statement.made <= now && statement.ends.is_none_or(|ends| now < ends);
        statements.iter().filter(holds).max_by_key(|statement| statement.made).copied()
    }
}

impl Certificate {
    /// The keys of it that `signature` says that it is by. There may be more than one: ids are short.
    pub fn made(&self, signature: &Signature) -> impl Iterator<Item = Signing<'_>> {
        let names = |key: &dyn KeyDetails| {
            signature.issuer_fingerprint().iter().any(|named| **named == key.fingerprint())
                || signature.issuer_key_id().iter().any(|named| **named == key.legacy_key_id())
        };
        let primary = names(&self.primary).then_some(Signing::Primary(&self.primary));
        let subkeys: Vec<_> = self.subkeys.iter().filter(|subkey| names(&subkey.key)).map(Signing::Subkey).collect();
        primary.into_iter().chain(subkeys)
    }

    /// Of the primary key.
    pub fn fingerprint(&self) -> String {
        super::fingerprint(&self.primary)
    }

    /// Who made `signature`, which is by `key` of this certificate, at `times`.
    ///
    /// # Errors
    /// `revoked-key`, `weak-key`, `unknown-key`, `expired-key`, `not-yet-valid-key`.
    pub fn judge(&self, key: Signing<'_>, signature: &Signature, times: Times) -> Result<String, Refusal> {
        let name = self.name(times.now);
        let label = format!("{} ({name})", self.fingerprint());
        let revoked = |why: &str| Err(Refusal::RevokedKey { key: label.clone(), why: why.to_owned() });
        if self.revoked {
            return revoked("which its owner revoked");
        }
        if let Signing::Subkey(Subkey { revoked: true, .. }) = key {
            return revoked("whose subkey that signed was revoked by its owner");
        }
        let weak = weakness(self.primary.public_params()).or_else(|| weakness(key.details().public_params()));
        if let Some(why) = weak {
            return Err(Refusal::WeakKey { key: label, why: format!("{why}; sign with an ed25519 key") });
        }
        self.check_primary(key, &label, times)?;
        if let Signing::Subkey(subkey) = key {
            subkey.check(&label, times)?;
        }
        // Its own time is the signer's choice as the commit's is; that it ends earlier only makes it hold for less.
        if let (Some(made), Some(lasts)) = (signature.created(), signature.signature_expiration_time())
            && lasts.as_secs() > 0
        {
            let ends = i64::from(made.as_secs()) + i64::from(lasts.as_secs());
            times.within(&label, None, Some(ends), "the signature itself", "sign anew")?;
        }
        Ok(name)
    }

    /// Whether the primary key is valid at `times`, and may sign where it did.
    fn check_primary(&self, key: Signing<'_>, label: &str, times: Times) -> Result<(), Refusal> {
        let unknown = |why: &str| Err(Refusal::UnknownKey { key: label.to_owned(), why: why.to_owned() });
        let current = |statements: &[Statement]| Statement::current(statements, times.now);
        let users = self.users.iter().filter(|user| !user.revoked).filter_map(|user| current(&user.said));
        let said: Vec<Statement> =
            current(&self.direct).into_iter().chain(users.max_by_key(|statement| statement.made)).collect();
        if said.is_empty() {
            return unknown(&format!("which says nothing of itself that holds today; {RENEW}"));
        }
        if said.iter().any(|statement| !statement.sound) {
            return Err(unsound(label, "which says what it is"));
        }
        if matches!(key, Signing::Primary(_)) && said.iter().any(|statement| statement.signs == Some(false)) {
            return unknown("which is not one to sign with; sign with its signing subkey");
        }
        // Where the key and the user id say different things the shorter time counts.
        let lasts = said.iter().filter_map(|statement| statement.lasts).min();
        lifetime(&self.primary, lasts, label, "the key", times)
    }

    /// Takes what another copy of the same key says, too: what is revoked in one is revoked.
    pub fn merge(&mut self, other: Self) {
        self.revoked |= other.revoked;
        self.direct.extend(other.direct);
        for user in other.users {
            match self.users.iter_mut().find(|known| known.id == user.id) {
                Some(known) => {
                    known.revoked |= user.revoked;
                    known.said.extend(user.said);
                }
                None => self.users.push(user),
            }
        }
        for subkey in other.subkeys {
            match self.subkeys.iter_mut().find(|known| known.key.fingerprint() == subkey.key.fingerprint()) {
                Some(known) => {
                    known.revoked |= subkey.revoked;
                    known.bindings.extend(subkey.bindings);
                }
                None => self.subkeys.push(subkey),
            }
        }
    }

    /// The user id that counts most at `now`, escaped and bounded; the fingerprint where there is none.
    fn name(&self, now: i64) -> String {
        let users = self.users.iter().filter(|user| !user.revoked);
        let said = users.filter_map(|user| Statement::current(&user.said, now).map(|statement| (statement, &user.id)));
        let sound = said.filter(|(statement, _)| statement.sound);
        let named = sound.max_by_key(|(statement, _)| (statement.main, statement.made)).map(|(_, id)| id.clone());
        one_line(&named.unwrap_or_else(|| self.fingerprint()), SHOWN)
    }
}

impl Subkey {
    fn check(&self, label: &str, times: Times) -> Result<(), Refusal> {
        let fingerprint = super::fingerprint(&self.key);
        match Statement::current(&self.bindings, times.now) {
            Some(Statement { sound: false, .. }) => {
                Err(unsound(label, &format!("whose subkey {fingerprint} is bound to it")))
            }
            Some(Statement { signs: Some(true), lasts, .. }) => {
                lifetime(&self.key, lasts, label, &format!("its subkey {fingerprint}"), times)
            }
            _ => {
                let why =
                    format!("whose subkey {fingerprint} is not bound to it as one to sign with; sign with another");
                Err(Refusal::UnknownKey { key: label.to_owned(), why })
            }
        }
    }
}

/// What `label` says last of itself is nothing to build on.
fn unsound(label: &str, what: &str) -> Refusal {
    let why = format!("{what} by a hash that can be forged, or in a way that is not understood here; {RENEW}");
    Refusal::WeakKey { key: label.to_owned(), why }
}

impl Signing<'_> {
    /// Whether `signature` is by it, over `payload`.
    pub fn verify(self, signature: &Signature, payload: &[u8]) -> bool {
        match self {
            Self::Primary(key) => signature.verify(key, payload).is_ok(),
            Self::Subkey(subkey) => signature.verify(&subkey.key, payload).is_ok(),
        }
    }

    /// Fingerprints of it, and of the key that it belongs to.
    pub fn fingerprints(self, certificate: &Certificate) -> [String; 2] {
        [super::fingerprint(self.details()), certificate.fingerprint()]
    }

    fn details(&self) -> &dyn KeyDetails {
        match self {
            Self::Primary(key) => *key,
            Self::Subkey(subkey) => &subkey.key,
        }
    }
}

/// Whether a key that lasts so many seconds is valid at `times`.
fn lifetime(key: &dyn KeyDetails, lasts: Option<i64>, label: &str, what: &str, times: Times) -> Result<(), Refusal> {
    let made = i64::from(key.created_at().as_secs());
    // It is valid before it ends, and no longer then.
    let last = lasts.map(|seconds| made + seconds - 1);
    times.within(label, Some(made), last, what, "sign with another key, or prolong it and export it anew")
}

/// What makes signatures by a key with `params` easy to forge, or impossible to verify here.
fn weakness(params: &PublicParams) -> Option<String> {
    match params {
        PublicParams::RSA(params) => {
            // It is written with its modulus first, and that with its length first: in bits, two bytes of it.
            let bits = params.to_bytes().unwrap_or_default().first_chunk().map_or(0, |bits| u16::from_be_bytes(*bits));
            (bits < FEWEST_BITS).then(|| format!("an RSA key of {bits} bits, which can be forged"))
        }
        PublicParams::EdDSALegacy(EddsaLegacyPublicParams::Ed25519 { .. })
        | PublicParams::ECDSA(
            EcdsaPublicParams::P256 { .. } | EcdsaPublicParams::P384 { .. } | EcdsaPublicParams::P521 { .. },
        )
        | PublicParams::Ed25519(_)
        | PublicParams::Ed448(_) => None,
        _ => Some("of a kind that is not believed here".to_owned()),
    }
}

/// A certificate whose packets are being collected.
#[derive(Debug)]
pub(super) struct Draft {
    certificate: Certificate,
    /// What the next signatures are about.
    about: About,
}

#[derive(Debug)]
enum About {
    Key,
    User { id: UserId, revoked: bool, said: Vec<Statement> },
    Picture,
    Subkey,
}

impl Draft {
    pub fn new(primary: PublicKey) -> Self {
        let certificate =
            Certificate { primary, direct: Vec::new(), users: Vec::new(), revoked: false, subkeys: Vec::new() };
        Self { certificate, about: About::Key }
    }

    pub fn user(&mut self, id: UserId) {
        self.turn(About::User { id, revoked: false, said: Vec::new() });
    }

    pub fn picture(&mut self) {
        self.turn(About::Picture);
    }

    pub fn subkey(&mut self, key: PublicSubkey) {
        self.turn(About::Subkey);
        self.certificate.subkeys.push(Subkey { key, bindings: Vec::new(), revoked: false });
    }

    pub fn finish(mut self) -> Certificate {
        self.turn(About::Key);
        self.certificate
    }

    fn turn(&mut self, about: About) {
        if let About::User { id, revoked, said } = std::mem::replace(&mut self.about, about) {
            let id = String::from_utf8_lossy(id.id()).into_owned();
            self.certificate.users.push(User { id, said, revoked });
        }
    }

    /// Whether `revocation` takes this key back; then it does.
    pub fn revoke(&mut self, revocation: &Signature) -> bool {
        let own = revocation.verify_key(&self.certificate.primary).is_ok();
        self.certificate.revoked |= own;
        own
    }

    /// Takes what `signature` says of what stands before it.
    ///
    /// # Errors
    /// Where it takes something back and does not hold, or cannot be read: it may hold in a way that is not known here.
    pub fn sign(&mut self, signature: Signature) -> Result<(), String> {
        const STRANGE: &str = "holds a signature that is not understood, and may take something back; \
                               export the keys with --export-options export-minimal";
        let Self { certificate: Certificate { primary, direct, subkeys, .. }, about } = self;
        let kind = signature.typ().ok_or(STRANGE)?;
        let user = |id: &UserId| signature.verify_certification(primary, Tag::UserId, id).is_ok();
        let bound = |subkey: &Subkey| signature.verify_subkey_binding(primary, &subkey.key).is_ok();
        match (kind, about, subkeys.last_mut()) {
            (SignatureType::SubkeyRevocation, About::Subkey, Some(subkey)) if bound(subkey) => subkey.revoked = true,
            (SignatureType::SubkeyRevocation, ..) => return Err(STRANGE.to_owned()),
            (SignatureType::CertRevocation, About::User { id, revoked, .. }, _) if user(id) => *revoked = true,
            (SignatureType::SubkeyBinding, About::Subkey, Some(subkey)) if bound(subkey) => {
                subkey.bindings.extend(binding(&signature, primary, &subkey.key));
            }
            (SignatureType::Key, ..) if signature.verify_key(primary).is_ok() => {
                direct.extend(Statement::of(&signature));
            }
            (_, About::User { id, said, .. }, _) if user(id) => said.extend(Statement::of(&signature)),
            // What others say of a key, and of pictures, is nothing to us.
            _ => {}
        }
        Ok(())
    }
}

/// What `signature`, which holds, says of `subkey`. One that may sign has to have said itself that it belongs there:
/// else anybody could take it for theirs.
fn binding(signature: &Signature, primary: &PublicKey, subkey: &PublicSubkey) -> Option<Statement> {
    let mut statement = Statement::of(signature)?;
    if statement.signs == Some(true) {
        let back =
            signature.embedded_signature().filter(|back| back.verify_primary_key_binding(subkey, primary).is_ok());
        let holds = back.and_then(Statement::of).is_some_and(|back| back.sound && back.ends.is_none());
        statement.signs = Some(holds);
    }
    Some(statement)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_a_key_says_the_last_counts_that_holds_at_the_time() {
        let said = |made, ends| Statement { made, ends, lasts: None, signs: None, main: false, sound: true };
        let statements = [said(20, None), said(10, None), said(30, Some(40)), said(50, None)];
        let current = |now| Statement::current(&statements, now).map(|statement| statement.made);
        let seen = [9, 10, 19, 20, 30, 39, 40, 49, 50].map(current);
        let wanted = [None, Some(10), Some(10), Some(20), Some(30), Some(30), Some(20), Some(20), Some(50)];
        assert_eq!(seen, wanted);
    }
}
