//! Short texts with a meaning: references, names, addresses, cursors, units.

use std::fmt::Display;
use std::str::FromStr;

use api::page::RowCursor;
use domain::catalog::{Principal, Template, parse_duration, parse_size, render_duration};
use domain::reference::Ref;
use domain::time::Timestamp;
use domain::token::Scope;
use forge::git::conventions::ProtocolName;
use forge::git::types::{BranchName, GitUrl, ObjectId, RefName, RepoPath};
use host::path::RelPath;
use testkit::fuzz::Fuzz;
use testkit::fuzz::text::Samples;

const N_RUNS: u64 = 200_000;

fn fuzz(name: &'static str, samples: &[&str], words: &[&str], mut check: impl FnMut(&str)) {
    let samples = Samples::new(samples.iter().copied(), words);
    Fuzz::new(name, N_RUNS).run(|random, input| {
        samples.draw(random, input);
        check(&String::from_utf8_lossy(input));
    });
}

/// What is taken is written back as something that is taken as the same.
fn comes_back<T: FromStr + Display + PartialEq>(text: &str) -> Option<T> {
    let value = T::from_str(text).ok()?;
    let written = value.to_string();
    assert!(T::from_str(&written).is_ok_and(|again| again == value), "{text:?} became {written:?}");
    Some(value)
}

#[test]
fn an_address_of_a_repository_is_taken_only_when_it_can_mean_nothing_else() {
    let samples = [
        "https://github.com/owner/repo.git",
        "ssh://git@example.org:22/group/sub/repo",
        "git@gitlab.com:group/repo.git",
        "https://[::1]:8443/x/y",
    ];
    let words = ["ext::sh -c id", "file:///etc", "-oProxyCommand=id", "user:pw@", "..", "?x=1", "#f", "%0a", "::", "@"];
    fuzz("addresses", &samples, &words, |text| {
        let Some(url) = comes_back::<GitUrl>(text) else { return };
        let shown = url.as_str();
        assert!(shown.starts_with("https://") || shown.starts_with("ssh://"), "{shown}");
        assert!(shown.bytes().all(|byte| byte.is_ascii_graphic()), "{shown}");
        assert!(!shown.contains("/../") && !shown.contains('?') && !shown.contains("/-"), "{shown}");
        assert!(!url.host().starts_with('-') && !url.host().is_empty(), "{shown}");
    });
}

#[test]
fn a_name_in_git_never_leaves_its_place() {
    let samples = ["main", "feature/x-1", "refs/heads/0001-make", "0001-make", "src/lib.rs", ".github/x.yml"];
    let words =
        ["..", "@{", ".lock", "//", "/.", "-", "~", "^", ":", ".git", ".GIT", "git~1", "\\", "refs/", "\u{200c}"];
    fuzz("names in git", &samples, &words, |text| {
        for name in [
            comes_back::<BranchName>(text).map(|name| name.to_string()),
            comes_back::<RefName>(text).map(|name| name.to_string()),
            comes_back::<ProtocolName>(text).map(|name| name.to_string()),
        ]
        .into_iter()
        .flatten()
        {
            assert!(!name.starts_with('-') && !name.contains("..") && !name.contains("@{"), "{name:?}");
            assert!(!name.chars().any(|c| c.is_control() || c.is_whitespace()), "{name:?}");
        }
        if let Ok(path) = RepoPath::parse(text) {
            assert_inside(&path.to_string());
        }
        if let Some(path) = comes_back::<RelPath>(text) {
            assert_inside(&path.to_string());
        }
    });
}

fn assert_inside(path: &str) {
    assert!(!path.starts_with('/') && !path.is_empty(), "{path:?}");
    for part in path.split('/') {
        assert!(!matches!(part, "" | "." | "..") && !part.contains('\0'), "{path:?}");
    }
}

#[test]
fn an_object_of_git_is_named_by_its_whole_hash() {
    let samples = ["4b825dc642cb6eb9a060e54bf8d69288fbee4904", &"a".repeat(64)];
    fuzz("objects", &samples, &["HEAD", "g", "A"], |text| {
        if let Some(id) = comes_back::<ObjectId>(text) {
            let shown = id.to_string();
            assert!(matches!(shown.len(), 40 | 64) && shown.bytes().all(|byte| byte.is_ascii_hexdigit()), "{shown}");
        }
    });
}

#[test]
fn a_reference_is_the_same_however_it_is_typed() {
    let samples = ["J-7Q4K2MX", "p-7q4k2mx", "A1B2C3", "g-o0il1zz"];
    fuzz("references", &samples, &["j-", "İ", "ı", "O", "0", "-"], |text| {
        if let Some(reference) = comes_back::<Ref>(text) {
            assert_eq!(Ref::parse(&text.to_ascii_lowercase()).ok(), Some(reference));
            assert_eq!(Ref::parse(&text.to_ascii_uppercase()).ok(), Some(reference));
        }
    });
}

#[test]
fn a_cursor_comes_back_or_is_none() {
    let samples = ["12.01a1fc66-3b98", "-5.7Q4K2MA", "9223372036854775807.x"];
    fuzz("cursors", &samples, &[".", "+1", "1'", "' OR 1=1", "\u{202e}"], |text| {
        if let Some(cursor) = RowCursor::parse(text) {
            assert_eq!(RowCursor::parse(&cursor.to_text()), Some(cursor.clone()));
            assert!(cursor.id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'), "{cursor:?}");
        }
    });
}

#[test]
fn units_scopes_principals_and_templates_are_read_or_refused() {
    let samples =
        ["1h30m", "90s", "15 m", "512MiB", "2g", "runs:write", "person:owner", "role:admin", "a {{ env }} b", "{x}"];
    let words = ["{{", "}}", "{", "}", "d", "w", "ms", "KiB", "18446744073709551615", "e9", ":", "*", "team:"];
    fuzz("units and the like", &samples, &words, |text| {
        if let Some(span) = parse_duration(text) {
            assert_eq!(parse_duration(&render_duration(span)), Some(span), "{text:?}");
        }
        let _ = parse_size(text);
        assert!(Scope::parse(text).is_none_or(|scope| scope.as_str() == text));
        comes_back::<Principal>(text);
        let _ = Template::parse(text);
        comes_back::<Timestamp>(text);
    });
}
