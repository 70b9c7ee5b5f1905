//! Short texts with a meaning: references, names, addresses, cursors, units.

use promises::names;
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

#[test]
fn an_address_of_a_repository_is_taken_only_when_it_can_mean_nothing_else() {
    let samples = [
        "https://github.com/owner/repo.git",
        "ssh://git@example.org:22/group/sub/repo",
        "git@gitlab.com:group/repo.git",
        "https://[::1]:8443/x/y",
    ];
    let words = ["ext::sh -c id", "file:///etc", "-oProxyCommand=id", "user:pw@", "..", "?x=1", "#f", "%0a", "::", "@"];
    fuzz("addresses", &samples, &words, names::address);
}

#[test]
fn a_name_in_git_never_leaves_its_place() {
    let samples = ["main", "feature/x-1", "refs/heads/0001-make", "0001-make", "src/lib.rs", ".github/x.yml"];
    let words =
        ["..", "@{", ".lock", "//", "/.", "-", "~", "^", ":", ".git", ".GIT", "git~1", "\\", "refs/", "\u{200c}"];
    fuzz("names in git", &samples, &words, names::name);
}

#[test]
fn an_object_of_git_is_named_by_its_whole_hash() {
    let samples = ["4b825dc642cb6eb9a060e54bf8d69288fbee4904", &"a".repeat(64)];
    fuzz("objects", &samples, &["HEAD", "g", "A"], names::object);
}

#[test]
fn a_reference_is_the_same_however_it_is_typed() {
    let samples = ["J-7Q4K2MX", "p-7q4k2mx", "A1B2C3", "g-o0il1zz"];
    fuzz("references", &samples, &["j-", "İ", "ı", "O", "0", "-"], names::reference);
}

#[test]
fn a_cursor_comes_back_or_is_none() {
    let samples = ["12.01a1fc66-3b98", "-5.7Q4K2MA", "9223372036854775807.x"];
    fuzz("cursors", &samples, &[".", "+1", "1'", "' OR 1=1", "\u{202e}"], names::cursor);
}

#[test]
fn units_scopes_principals_and_templates_are_read_or_refused() {
    let samples =
        ["1h30m", "90s", "15 m", "512MiB", "2g", "runs:write", "person:owner", "role:admin", "a {{ env }} b", "{x}"];
    let words = ["{{", "}}", "{", "}", "d", "w", "ms", "KiB", "18446744073709551615", "e9", ":", "*", "team:"];
    fuzz("units and the like", &samples, &words, |text| {
        names::units(text);
        names::scope(text);
    });
}
