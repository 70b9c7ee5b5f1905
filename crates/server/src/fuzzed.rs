//! What holds of [`crate::written`], whatever it is given. The seeded tests of every build ask it, and the coverage-guided
//! targets of `fuzz/`, which are built of these files.

use crate::written::{bearer, split};

/// What is taken for a host is a name that can be compared byte for byte, and is the same when it is written so.
pub(crate) fn host(text: &str) {
    let Some((name, port)) = split(text) else { return };
    assert!(name.bytes().all(|byte| byte.is_ascii_graphic() && !byte.is_ascii_uppercase()), "{text:?}");
    assert!(!name.contains(['/', '@', '?', '#', '%', ',']), "{text:?}");
    let (before, _) = text.split_at(name.len().min(text.len()));
    assert_eq!(before.to_ascii_lowercase(), name, "what was compared is not what stands there");
    if let Some(port) = port {
        assert_eq!(split(&format!("{name}:{port}")), Some((name, Some(port))), "{text:?}");
    }
}

/// A secret is what stands in the header behind its scheme, whole and nothing else.
pub(crate) fn secret(text: &str) {
    let Some(secret) = bearer(text) else { return };
    assert!(!secret.is_empty() && secret.trim() == secret, "{text:?}");
    let (scheme, rest) = text.split_once(' ').expect("a secret has a scheme");
    assert!(scheme.eq_ignore_ascii_case("bearer") && rest.trim() == secret, "{text:?}");
    assert_eq!(bearer(&format!("Bearer {secret}")), Some(secret), "{text:?}");
}
