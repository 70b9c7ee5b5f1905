use super::*;
use host::path::RelPathError;
use proptest::prelude::*;

const OID: &str = "0123456789abcdef0123456789abcdef01234567";

/// What somebody would type to be taken for an option, a command, a helper or a way out.
const HOSTILE: [&str; 24] = [
    "--upload-pack=x",
    "-oProxyCommand=x",
    "-x",
    "../..",
    "..",
    "/etc/passwd",
    "a\0b",
    "a\u{202e}b",
    "a\u{3000}b",
    "ext::sh -c touch% x",
    "fd::17",
    "file:///etc",
    "a\nb",
    "a b",
    "a`b`",
    "a|b",
    "a&b",
    "a$(b)",
    "a@{1}",
    "a~1",
    "a^{commit}",
    "a:b",
    "a*",
    "",
];

#[test]
fn hostile_values_are_no_branch_ref_object_id_or_address() {
    for text in HOSTILE {
        assert!(BranchName::parse(text).is_err(), "{text:?}");
        assert!(RefName::parse(text).is_err(), "{text:?}");
        assert!(RefName::parse(&format!("refs/heads/{text}")).is_err(), "{text:?}");
        assert!(ObjectId::parse(text).is_err(), "{text:?}");
        assert!(GitUrl::parse(text).is_err(), "{text:?}");
    }
}

#[test]
fn plain_branch_names_are_kept_as_they_are() {
    for text in ["main", "0001-fix-it", "feature/x_1.2", "v1.0", "A", &"n".repeat(200)] {
        let branch = BranchName::parse(text).unwrap();

        assert_eq!(branch.as_str(), text);
        assert_eq!(branch.to_ref(), RefName::parse(&format!("refs/heads/{text}")).unwrap());
        assert_eq!(branch.to_ref().branch(), Some(branch));
    }
}

#[test]
fn names_are_refused_by_reason() {
    let cases = [
        ("", NameError::Empty),
        (&"n".repeat(201), NameError::TooLong),
        ("a b", NameError::Character),
        ("ü", NameError::Character),
        ("-x", NameError::Start),
        (".x", NameError::Start),
        ("a/-x", NameError::Start),
        ("a/.x", NameError::Start),
        ("a..b", NameError::Dots),
        ("a//b", NameError::Slashes),
        ("/a", NameError::Slashes),
        ("a/", NameError::Slashes),
        ("a.lock", NameError::End),
        ("a.LOCK/b", NameError::End),
        ("a.", NameError::End),
        ("HEAD", NameError::Reserved),
        ("refs/heads/a", NameError::Reserved),
        (OID, NameError::LooksLikeObjectId),
    ];
    for (text, reason) in cases {
        assert_eq!(BranchName::parse(text), Err(reason), "{text:?}");
    }
    assert_eq!(RefName::parse("main"), Err(NameError::NotFull));
    assert_eq!(RefName::parse("refs/heads"), Err(NameError::NotFull));
}

#[test]
fn object_ids_have_one_spelling() {
    assert_eq!(ObjectId::parse(&OID.to_uppercase()).unwrap().as_str(), OID);
    assert_eq!(ObjectId::parse(&"ab".repeat(32)).unwrap().short(), "ababababab");
    assert_eq!(ObjectId::parse(&OID[..39]), Err(ObjectIdError::Length));
    assert_eq!(ObjectId::parse(&OID.replace('0', "g")), Err(ObjectIdError::Digit));
    assert_eq!(ObjectId::parse(&"0".repeat(40)), Err(ObjectIdError::Zero));
}

#[test]
fn addresses_have_one_spelling() {
    let cases = [
        ("https://github.com/o/r.git", "https://github.com/o/r.git"),
        ("HTTPS://GitHub.com:8443/o/r/", "https://github.com:8443/o/r/"),
        ("ssh://git@example.org/o/r", "ssh://git@example.org/o/r"),
        ("ssh://example.org:2222/~me/r", "ssh://example.org:2222/~me/r"),
        ("git@github.com:o/r.git", "ssh://git@github.com/o/r.git"),
        ("git@example.org:/srv/r.git", "ssh://git@example.org/srv/r.git"),
        ("https://[2001:db8::1]:8080/r", "https://[2001:db8::1]:8080/r"),
    ];
    for (text, spelling) in cases {
        let url = GitUrl::parse(text).unwrap();
        assert_eq!(url.as_str(), spelling);
        assert_eq!(GitUrl::parse(spelling), Ok(url), "the spelling stays the same when it is read again");
    }
    let url = GitUrl::parse("ssh://git@Example.org:2222/o/r").unwrap();
    assert_eq!((url.scheme(), url.host(), url.port()), (Scheme::Ssh, "example.org", Some(2222)));
}

#[test]
fn addresses_are_refused_by_reason() {
    let cases = [
        ("", UrlError::Empty),
        ("--upload-pack=touch", UrlError::Start),
        ("-oProxyCommand=x@h:p", UrlError::Start),
        ("https://user:secret@example.org/r", UrlError::UserInfo),
        ("https://token@example.org/r", UrlError::UserInfo),
        ("ssh://git:secret@example.org/r", UrlError::UserInfo),
        ("ssh://-oProxyCommand=x@example.org/r", UrlError::UserInfo),
        ("ssh://-oProxyCommand=x/r", UrlError::Host),
        ("git@-oProxyCommand=x:r", UrlError::Host),
        ("ssh://git@/r", UrlError::Host),
        ("https:///r", UrlError::Host),
        ("https://a..b/r", UrlError::Host),
        ("https://[zz]/r", UrlError::Host),
        ("https://example.org:0/r", UrlError::Port),
        ("https://example.org:65536/r", UrlError::Port),
        ("https://example.org:/r", UrlError::Port),
        ("https://example.org", UrlError::Path),
        ("https://example.org/", UrlError::Path),
        ("https://example.org/a/../b", UrlError::Path),
        ("https://example.org/a?x=y", UrlError::Path),
        ("https://example.org/a#b", UrlError::Path),
        ("https://example.org/%2e%2e/b", UrlError::Path),
        ("git@example.org:-x", UrlError::Path),
        ("http://example.org/r", UrlError::Scheme),
        ("git://example.org/r", UrlError::Scheme),
        ("file:///srv/r", UrlError::Scheme),
        ("ext::sh", UrlError::Scheme),
        ("fd::17", UrlError::Scheme),
        ("a@ext::sh", UrlError::Scheme),
        ("/srv/r.git", UrlError::Scheme),
        ("C:/r", UrlError::Scheme),
        ("https://example.org/r\n", UrlError::Character),
        ("https://ex\u{202e}ample.org/r", UrlError::Character),
        ("https://example.org\\@evil.test/r", UrlError::Character),
    ];
    for (text, reason) in cases {
        assert_eq!(GitUrl::parse(text), Err(reason), "{text:?}");
    }
    assert_eq!(GitUrl::parse(&format!("https://example.org/{}", "a".repeat(2048))), Err(UrlError::TooLong));
    // Short enough as it is typed, too long as it is kept.
    assert_eq!(GitUrl::parse(&format!("git@example.org:{}", "a".repeat(2030))), Err(UrlError::TooLong));
}

#[test]
fn an_error_about_an_address_never_repeats_it() {
    let error = GitUrl::parse("https://user:hunter2@example.org/r").unwrap_err();
    assert!(!format!("{error} {error:?}").contains("hunter2"));
}

#[test]
fn paths_in_another_spelling_are_refused() {
    assert_eq!(RepoPath::parse("u\u{308}.txt"), Err(PathError::NotComposed));
    assert_eq!(RepoPath::parse("ü.txt").unwrap().as_str(), "ü.txt");
    assert_eq!(RepoPath::parse("a/git~1/x"), Err(RelPathError::GitDirectory.into()));
    assert_eq!(RepoPath::parse(".g\u{200d}it/hooks/x"), Err(RelPathError::Invisible.into()));
}

#[test]
fn a_path_lists_the_directories_above_it() {
    let path = RepoPath::parse("a/b/c.md").unwrap();
    assert_eq!(path.parents().collect::<Vec<_>>(), ["a", "a/b"]);
}

fn hostile_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        prop::sample::select(HOSTILE.to_vec()).prop_map(str::to_owned),
        "[a-zA-Z0-9._/@:~ -]{0,12}",
        prop::sample::select(vec!["refs/heads/", "https://", "ssh://", "git@", ".git", ".lock", "//", "/", "%00"])
            .prop_map(str::to_owned),
        any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(piece, 0..5).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn whatever_is_accepted_as_a_name_cannot_be_an_option_or_an_expression(text in hostile_text()) {
        for name in [BranchName::parse(&text).map(String::from), RefName::parse(&text).map(String::from)].into_iter().flatten() {
            prop_assert!(name.is_ascii() && !name.starts_with(['-', '.', '/']) && name.len() <= 240);
            prop_assert!(!name.contains("..") && !name.contains("//") && !name.contains("/-"));
            let expression = "@{^~:?*[\\ \x7f";
            prop_assert!(!name.chars().any(|c| expression.contains(c)));
            prop_assert!(name.split('/').all(|part| !part.ends_with(".lock")));
        }
    }

    #[test]
    fn whatever_is_accepted_as_an_address_is_a_host_and_a_path(text in hostile_text()) {
        if let Ok(url) = GitUrl::parse(&text) {
            prop_assert!(url.as_str().starts_with("https://") || url.as_str().starts_with("ssh://"));
            prop_assert!(url.as_str().bytes().all(|b| b.is_ascii_graphic()));
            prop_assert!(!url.host().starts_with('-') && !url.host().is_empty());
            prop_assert!(url.scheme() == Scheme::Ssh || !url.as_str().contains('@') || url.as_str().contains("/@") || url.as_str().rsplit('/').any(|name| name.contains('@')));
            prop_assert!(!url.as_str().contains("/../") && !url.as_str().contains("::/"));
            let again = GitUrl::parse(url.as_str());
            prop_assert_eq!(again, Ok(url));
        }
    }

    #[test]
    fn whatever_is_accepted_as_a_path_stays_below_its_root(text in hostile_text()) {
        if let Ok(path) = RepoPath::parse(&text) {
            let mut components = std::path::Path::new(path.as_str()).components();
            prop_assert!(components.all(|c| matches!(c, std::path::Component::Normal(_))));
            prop_assert!(!path.as_str().chars().any(char::is_control));
            prop_assert!(!path.as_str().split('/').any(|name| name.eq_ignore_ascii_case(".git")));
        }
    }

    #[test]
    fn parsing_any_text_never_panics(text in any::<String>()) {
        let _ = (BranchName::parse(&text).is_ok(), RefName::parse(&text).is_ok(), ObjectId::parse(&text).is_ok());
        let _ = (GitUrl::parse(&text).is_ok(), RepoPath::parse(&text).is_ok());
    }
}
