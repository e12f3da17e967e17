//! OpenPGP packets, and keys put together from them.

use std::io::Cursor;

use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{Packet, PacketParser, Signature, SignatureType, SignatureVersion, SubpacketData};

use super::certificate::{Certificate, Draft};

/// The most packets of one keyring.
const MOST_PACKETS: usize = 20_000;

/// All packets of `bytes`. The parser that the keys of [`pgp::composed`] are made with passes over what it does not
/// know, and a revocation could be that; here it is an error.
///
/// # Errors
/// What is wrong, and what to do.
pub(super) fn read(bytes: &[u8]) -> Result<Vec<Packet>, String> {
    let mut packets = Vec::new();
    for packet in PacketParser::new(Cursor::new(bytes)) {
        let packet = packet.map_err(|error| {
            let error = crate::model::one_line(&error.to_string(), 200);
            format!("holds what is not understood ({error}); export the keys with --export-options export-minimal")
        })?;
        match packet {
            Packet::Marker(_) | Packet::Padding(_) | Packet::Trust(_) => {}
            packet => packets.push(packet),
        }
        if packets.len() > MOST_PACKETS {
            return Err(format!("has more than {MOST_PACKETS} packets"));
        }
    }
    Ok(packets)
}

/// The keys that `packets` make.
///
/// # Errors
/// What is wrong, and what to do.
pub(super) fn certificates(packets: Vec<Packet>) -> Result<Vec<Certificate>, String> {
    let mut drafts: Vec<Draft> = Vec::new();
    // They may stand anywhere, also in a file of their own: gpg writes one for each key that it makes.
    let mut revocations = Vec::new();
    for packet in packets {
        match (packet, drafts.last_mut()) {
            (Packet::PublicKey(key), _) => drafts.push(Draft::new(key)),
            (Packet::Signature(signature), _) if signature.typ() == Some(SignatureType::KeyRevocation) => {
                revocations.push(signature);
            }
            (Packet::UserId(id), Some(draft)) => draft.user(id),
            (Packet::UserAttribute(_), Some(draft)) => draft.picture(),
            (Packet::PublicSubkey(key), Some(draft)) => draft.subkey(key),
            (Packet::Signature(signature), Some(draft)) => draft.sign(signature)?,
            (Packet::SecretKey(_) | Packet::SecretSubkey(_), _) => {
                return Err("holds a secret key, which belongs to nobody but its owner; export public keys".to_owned());
            }
            _ => return Err("holds what is no OpenPGP public key; export it anew (gpg --armor --export)".to_owned()),
        }
    }
    for revocation in revocations {
        // One by somebody else whom the owner appointed cannot be told from one that means nothing.
        if !drafts.iter_mut().any(|draft| draft.revoke(&revocation)) {
            return Err("holds a revocation that is of none of its keys; take out the one or add the other".to_owned());
        }
    }
    Ok(drafts.into_iter().map(Draft::finish).collect())
}

/// Whether nothing of `signature` that its maker held to be critical is unknown here.
pub(super) fn is_understood(signature: &Signature) -> bool {
    let known = [SignatureVersion::V4, SignatureVersion::V6].contains(&signature.version());
    let strange = |data: &SubpacketData| {
        matches!(data, SubpacketData::Experimental(..) | SubpacketData::Other(..) | SubpacketData::Notation(_))
    };
    let config = signature.config();
    known && config.is_some_and(|config| !config.hashed_subpackets().any(|sub| sub.is_critical && strange(&sub.data)))
}

/// Whether the hash of `signature` is one that nobody can make collide.
///
/// # Errors
/// Which it is, and what to do.
pub(super) fn check_hash(signature: &Signature) -> Result<(), String> {
    use HashAlgorithm::{Sha3_256, Sha3_512, Sha224, Sha256, Sha384, Sha512};
    match signature.hash_alg() {
        Some(Sha224 | Sha256 | Sha384 | Sha512 | Sha3_256 | Sha3_512) => Ok(()),
        Some(weak) => Err(format!("over {weak}, which can be forged; sign with digest-algo SHA512 in gpg.conf")),
        None => Err("over a hash that is not known here; sign with digest-algo SHA512 in gpg.conf".to_owned()),
    }
}
