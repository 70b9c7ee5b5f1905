//! Schemathesis, for the test that asks the API whatever its description allows, and more.

use crate::lent::Kind;
use crate::venv::{self, Pinned};

pub(crate) static KIND: Kind = Kind {
    what: "Schemathesis",
    directory: "PILOTHOUSE_TEST_SCHEMATHESIS",
    missing: "PILOTHOUSE_TEST_SCHEMATHESIS_MISSING",
    flag: "--no-schemathesis",
    tests: "schemathesis::",
    fetch: || venv::fetch(&PINNED),
};

const PINNED: Pinned = Pinned {
    what: "Schemathesis",
    flag: "--no-schemathesis",
    requirements: "crates/testkit/schemathesis/requirements.txt",
    directory: "schemathesis",
};
