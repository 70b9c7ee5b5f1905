//! The validators of Kubernetes manifests and compose files, for the tests that hold those of `deploy` to their schemas.

use crate::lent::Kind;
use crate::venv::{self, Pinned};

pub(crate) static KIND: Kind = Kind {
    what: "the validators of manifests",
    directory: "PILOTHOUSE_TEST_MANIFESTS",
    missing: "PILOTHOUSE_TEST_MANIFESTS_MISSING",
    flag: "--no-manifests",
    tests: "manifests::",
    fetch: || venv::fetch(&PINNED),
};

const PINNED: Pinned = Pinned {
    what: "the validators of manifests",
    flag: "--no-manifests",
    requirements: "crates/testkit/manifests/requirements.txt",
    directory: "manifests",
};
