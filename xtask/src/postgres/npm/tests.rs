use std::fs;

use super::*;

#[test]
fn a_package_with_another_checksum_is_refused() {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let tarball = scratch.path().join("package.tgz");
    fs::write(&tarball, b"abc").expect("written");
    let right = "sha512-3a81oZNherrMQXNJriBBMRLm+k6JqX6iCp7u5ktV05ohkpkqJ0/BqDa6PCOj/uu9RU1EI2Q86A4qmslPpUyknw==";
    assert!(verify(&tarball, right).is_ok());
    fs::write(&tarball, b"abd").expect("written");
    assert!(verify(&tarball, right).expect_err("a changed package").to_string().contains("expected sha512-3a81"));
}

#[test]
fn every_package_pins_a_whole_sha512() {
    for (.., platform, integrity) in PACKAGES {
        let encoded = integrity.strip_prefix("sha512-").expect("a sha512");
        let bytes = base64::engine::general_purpose::STANDARD.decode(encoded).expect("base64");
        assert_eq!(bytes.len(), 64, "{platform}");
    }
}

fn package(links: &str) -> tempfile::TempDir {
    let root = tempfile::tempdir().expect("a scratch directory");
    fs::create_dir_all(root.path().join("native/lib")).expect("created");
    fs::write(root.path().join("native/lib/a.so.1"), b"a").expect("written");
    fs::write(root.path().join("native/pg-symlinks.json"), links).expect("written");
    root
}

#[test]
fn the_links_of_a_package_are_restored() {
    let root = package(r#"[{"source":"native/lib/a.so.1","target":"native/lib/a.so"}]"#);
    restore_links(root.path()).expect("restored");
    assert_eq!(fs::read(root.path().join("native/lib/a.so")).expect("linked"), b"a");
}

#[test]
fn a_package_cannot_link_outside_itself() {
    for outside in ["../x", "/etc/passwd", "native/../../x"] {
        let root = package(&format!(r#"[{{"source":"{outside}","target":"native/lib/a.so"}}]"#));
        assert!(restore_links(root.path()).is_err(), "{outside}");
        let root = package(&format!(r#"[{{"source":"native/lib/a.so.1","target":"{outside}"}}]"#));
        assert!(restore_links(root.path()).is_err(), "{outside}");
    }
}
