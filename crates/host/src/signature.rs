//! Keyed signatures (HMAC-SHA-256) over raw bytes: made and checked here only.

use crate::hash;

/// HMAC-SHA-256 over the concatenation of `parts`.
pub fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut block = [0u8; 64];
    if key.len() > block.len() {
        block[..32].copy_from_slice(&hash::sha256(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let mut inner = block.map(|byte| byte ^ 0x36).to_vec();
    for part in parts {
        inner.extend_from_slice(part);
    }
    let mut outer = block.map(|byte| byte ^ 0x5c).to_vec();
    outer.extend_from_slice(&hash::sha256(&inner));
    hash::sha256(&outer)
}

/// HMAC-SHA-256 as lower-case hexadecimal.
pub fn hmac_sha256_hex(key: &[u8], parts: &[&[u8]]) -> String {
    hash::hex(&hmac_sha256(key, parts))
}

/// Whether `signature`, in hexadecimal, is what the holder of `key` would have signed.
pub fn verify_hmac_sha256_hex(key: &[u8], parts: &[&[u8]], signature: &str) -> bool {
    hash::constant_time_eq(hmac_sha256_hex(key, parts).as_bytes(), signature.to_ascii_lowercase().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_4231_case_two_is_met() {
        let signature = hmac_sha256_hex(b"Jefe", &[b"what do ya want ", b"for nothing?"]);
        assert_eq!(signature, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
        assert!(verify_hmac_sha256_hex(b"Jefe", &[b"what do ya want for nothing?"], &signature));
        assert!(!verify_hmac_sha256_hex(b"jefe", &[b"what do ya want for nothing?"], &signature));
    }

    #[test]
    fn rfc_4231_case_six_hashes_a_long_key() {
        let signature = hmac_sha256_hex(&[0xaa; 131], &[b"Test Using Larger Than Block-Size Key - Hash Key First"]);
        assert_eq!(signature, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
    }
}
