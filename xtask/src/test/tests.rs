use super::*;

fn chosen(line: &str) -> bool {
    let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    names_a_package(&arguments)
}

#[test]
fn a_package_may_be_named_in_every_way_that_cargo_knows() {
    for line in ["-p store", "-pstore", "--package store", "--package=store", "--lib -p store -- claims"] {
        assert!(chosen(line), "{line}");
    }
}

#[test]
fn what_the_test_programs_are_told_names_no_package() {
    for line in ["", "--lib", "claims", "-- -p", "--no-fail-fast -- --package"] {
        assert!(!chosen(line), "{line}");
    }
}
