//! The pseudo-random function of TLS 1.2 (RFC 5246 5), and what is made with it.

use ring::hmac::{self, Key};

use super::{Digest, Secrets};

/// Fills `out` with what the PRF makes of the master secret, `label` and `seed`.
fn prf(secrets: &Secrets, label: &[u8], seed: &[&[u8]], out: &mut [u8]) {
    let algorithm = match secrets.digest {
        Digest::Sha256 => hmac::HMAC_SHA256,
        Digest::Sha384 => hmac::HMAC_SHA384,
    };
    let key = Key::new(algorithm, &secrets.master);
    let with_seed = |first: &[u8]| {
        let mut context = hmac::Context::with_key(&key);
        context.update(first);
        context.update(label);
        seed.iter().for_each(|part| context.update(part));
        context.sign()
    };
    let mut a = with_seed(&[]);
    for chunk in out.chunks_mut(algorithm.digest_algorithm().output_len()) {
        chunk.copy_from_slice(&with_seed(a.as_ref()).as_ref()[..chunk.len()]);
        a = hmac::sign(&key, a.as_ref());
    }
}

/// The key block (RFC 5246 6.3).
pub fn key_block(secrets: &Secrets, out: &mut [u8]) {
    prf(secrets, b"key expansion", &[&secrets.server_random, &secrets.client_random], out);
}

/// Labels that the protocol itself uses: what is derived with them must not be handed out (RFC 5705 4).
const OURS: [&str; 5] =
    ["client finished", "server finished", "master secret", "extended master secret", "key expansion"];

/// Key material for another protocol (RFC 5705). Returns `false` if the label or the context is not allowed.
#[inline(never)]
pub fn export(secrets: &Secrets, label: &str, context: Option<&[u8]>, out: &mut [u8]) -> bool {
    let Ok(len) = u16::try_from(context.map_or(0, <[u8]>::len)) else { return false };
    if OURS.iter().any(|ours| label.starts_with(ours)) {
        return false;
    }
    let randoms: [&[u8]; 2] = [&secrets.client_random, &secrets.server_random];
    match context {
        Some(context) => {
            prf(secrets, label.as_bytes(), &[randoms[0], randoms[1], &len.to_be_bytes(), context], out);
        }
        None => prf(secrets, label.as_bytes(), &randoms, out),
    }
    true
}

#[cfg(test)]
mod tests {
    use super::super::tests::hex;
    use super::*;

    /// The test vector for TLS12PRF-SHA256 that the IETF's TLS list keeps (2009), whose secret is shorter than a master
    /// secret: zeros behind it do not change an HMAC key that is shorter than a block.
    #[test]
    fn the_published_vector() {
        let mut secrets =
            Secrets { master: [0; 48], client_random: [0; 32], server_random: [0; 32], digest: Digest::Sha256 };
        secrets.master[..16].copy_from_slice(&hex("9bbe436ba940f017b17652849a71db35"));
        let mut out = [0; 100];
        prf(&secrets, b"test label", &[&hex("a0ba9f936cda311827a6f796ffd5198c")], &mut out);
        assert_eq!(
            out[..],
            hex("e3f229ba727be17b8d122620557cd453c2aab21d07c3d495329b52d4e61edb5a6b301791e90d35c9c9a46b4e14baf9af\
                 0fa022f7077def17abfd3797c0564bab4fbc91666e9def9b97fce34f796789baa48082d122ee42c5a72e5a5110fff701\
                 87347b66")
        );
    }
}
