//! Every fault there is. Adding one: its module here, its constant in the list, its row in `docs/faults.md`.

pub mod kill;
pub mod failpoints;
pub mod postgres_restart;
pub mod zombie;
pub mod partitions;
pub mod recovery;
pub mod claims;
pub mod approvals;
pub mod migration;
pub mod backup;
pub mod disk_full;
pub mod clock;
pub mod overload;
pub mod soak;
pub mod power_cut;

use crate::fault::Fault;

/// In the order in which they run: those that wait for the whole machine last, and before them what takes longest first,
/// so that no place stands empty.
pub const ALL: &[&Fault] = &[
    &kill::FAULT,
    &zombie::FAULT,
    &partitions::FAULT,
    &failpoints::FAULT,
    &postgres_restart::FAULT,
    &disk_full::FAULT,
    &clock::FAULT,
    &recovery::FAULT,
    &soak::FAULT,
    &backup::FAULT,
    &migration::FAULT,
    &power_cut::FAULT,
    &claims::FAULT,
    &approvals::FAULT,
    &overload::FAULT,
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::fault::Expects;

    #[test]
    fn every_fault_has_a_name_of_its_own_and_a_control_that_must_fail() {
        let names: BTreeSet<&str> = ALL.iter().map(|fault| fault.name).collect();

        assert_eq!(names.len(), ALL.len());
        for fault in ALL {
            let fails = fault.controls.iter().any(|control| control.expects != Expects::Nothing);
            assert!(fails, "nothing shows that the checks of {} can fail", fault.name);
            assert!(!fault.on.is_empty() && fault.on.iter().all(|on| on.quick <= on.long), "{}", fault.name);
        }
    }

    #[test]
    fn every_fault_has_its_row_in_the_documentation() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/faults.md");
        let page = std::fs::read_to_string(page).expect("docs/faults.md");
        for fault in ALL {
            assert!(page.contains(&format!("| `{}` |", fault.name)), "docs/faults.md has no row for {}", fault.name);
        }
    }
}
