//! Randomness from the kernel, for ids, references and secrets alike.

use std::cell::RefCell;

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// `N` random bytes.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut out = [0; N];
    getrandom::fill(&mut out).expect("a running kernel has randomness");
    out
}

/// A random number.
pub fn u64() -> u64 {
    u64::from_ne_bytes(bytes())
}

thread_local! {
    static DRAWN: RefCell<Drawn> = const { RefCell::new(Drawn { bytes: [0; 256], left: 0 }) };
}

/// What a thread has drawn ahead for ids, of which many may be made for one message.
struct Drawn {
    bytes: [u8; 256],
    left: usize,
}

/// `N` random bytes, at most 256, for an id that anybody may see: drawn ahead, so that most cost no call of the kernel.
/// Secrets are not made of these, because what lies ready in memory can be read there.
pub fn id_bytes<const N: usize>() -> [u8; N] {
    const { assert!(N <= 256, "a thread draws 256 bytes at a time") };
    DRAWN.with_borrow_mut(|drawn| {
        if drawn.left < N {
            *drawn = Drawn { bytes: bytes(), left: 256 };
        }
        drawn.left -= N;
        let mut out = [0; N];
        out.copy_from_slice(&drawn.bytes[drawn.left..drawn.left + N]);
        out
    })
}

/// A random id.
pub fn uuid_v4() -> uuid::Uuid {
    uuid::Builder::from_random_bytes(id_bytes()).into_uuid()
}

/// A random id that sorts by when it was made.
pub fn uuid_v7() -> uuid::Uuid {
    let millis = u64::try_from(crate::clock::now_micros() / 1000).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(millis, &id_bytes()).into_uuid()
}

/// `n` random characters of `0-9A-Za-z`, each of them equally likely.
pub fn base62(n: usize) -> String {
    let mut out = String::with_capacity(n);
    while out.len() < n {
        for byte in bytes::<32>() {
            // Bytes from 248 on would make the first eight characters likelier than the rest.
            if byte < 248 && out.len() < n {
                out.push(char::from(BASE62[usize::from(byte) % 62]));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base62_has_the_length_asked_for_and_only_its_alphabet() {
        for n in [0, 1, 22, 43, 1000] {
            let text = base62(n);
            assert_eq!(text.len(), n);
            assert!(text.bytes().all(|b| b.is_ascii_alphanumeric()));
        }
    }

    #[test]
    fn every_character_of_base62_occurs() {
        let text = base62(20_000);
        assert!(BASE62.iter().all(|&b| text.contains(char::from(b))));
    }

    #[test]
    fn ids_say_their_version_and_the_later_ones_sort_behind() {
        let first = uuid_v7();
        std::thread::sleep(std::time::Duration::from_millis(2));
        let second = uuid_v7();
        assert_eq!((uuid_v4().get_version_num(), first.get_version_num()), (4, 7));
        assert!(first < second);
    }

    #[test]
    fn two_draws_differ() {
        assert_ne!(bytes::<32>(), bytes::<32>());
        assert_ne!(u64(), u64());
    }

    #[test]
    fn what_is_drawn_ahead_is_used_once() {
        let drawn: std::collections::BTreeSet<[u8; 24]> = (0..1000).map(|_| id_bytes()).collect();
        assert_eq!(drawn.len(), 1000);
        assert_ne!(id_bytes::<256>(), id_bytes::<256>());
    }
}
