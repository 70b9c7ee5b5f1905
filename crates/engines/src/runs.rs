//! The runs of one attempt's engine: those that are over lie in `before-1`, `before-2` … of the attempt's directory, the
//! present one in the directory itself.
//!
//! Whoever follows an attempt reads them in this order while the next may begin at any moment: a run that was set aside
//! as a whole says so, and until then it is still found where it was.

use crate::exit;
use crate::protocol::SOCKET;
use crate::spec::Stream;
use host::fs::FsError;
use serde::Deserialize;
use std::path::Path;

/// What a worker remembers of an attempt's engine, in the attempt's directory.
pub const NOTE: &str = "engine.json";
/// More runs than this are more than an attempt should need.
pub const MAX_RUNS: usize = 6;

const MAX_NOTE: u64 = 64 * 1024;
/// The last thing that is put into the directory of a run that was set aside.
const WHOLE: &str = "set-aside";

/// A run that is over and was followed by another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Before {
    /// The name of its directory within the attempt's.
    pub name: String,
    /// Whether the run after it went on with its session.
    pub resumed: bool,
}

/// What is read of the note here; the rest is the worker's.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Resumed {
    resumed: Vec<bool>,
}

/// The name of the directory of a run that was set aside, from 1.
pub fn name_of(number: usize) -> String {
    format!("before-{number}")
}

/// The runs of an attempt that were set aside as a whole, in their order.
pub fn before(dir: &Path) -> Vec<Before> {
    let note = host::fs::read(&dir.join(NOTE), MAX_NOTE).unwrap_or_default();
    // A note that is not understood is nobody's: then there is the present run and no other.
    let Resumed { resumed } = serde_json::from_slice(&note).unwrap_or_default();
    let runs = resumed.into_iter().take(MAX_RUNS).zip(1..);
    let runs = runs.map(|(resumed, number)| Before { name: name_of(number), resumed });
    runs.filter(|run| host::fs::exists(&dir.join(&run.name).join(WHOLE))).collect()
}

/// Moves what an ended run left into a directory beneath its own, so that another can be started in its place. Only
/// after [`crate::supervisor::adopt`] found it finished or gone. Cut off anywhere it is simply done again.
/// `stream`: the one that the engine talks on; what others wrote beside it stays.
pub fn set_aside(dir: &Path, into: &Path, stream: Stream) -> Result<(), FsError> {
    host::fs::create_private_dir(into)?;
    let streams = match stream {
        Stream::Output => &[Stream::Output][..],
        Stream::Stdout | Stream::Stderr => &[Stream::Stdout, Stream::Stderr],
    };
    // The result goes first: with it here and the output there, the end would be taken for one without a word.
    let streams = streams.iter().map(|stream| stream.file_name());
    for name in [exit::FILE, SOCKET].into_iter().chain(streams).chain([crate::supervisor::LOG]) {
        if host::fs::exists(&dir.join(name)) {
            host::fs::rename(&dir.join(name), &into.join(name))?;
        }
    }
    host::fs::write_atomic(&into.join(WHOLE), b"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_counts_as_set_aside_once_all_of_it_is() {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path();
        std::fs::write(dir.join(NOTE), r#"{"resumed": [true, false], "waits": false}"#).unwrap();
        std::fs::write(dir.join("stdout"), "one\n").unwrap();
        assert_eq!(before(dir), []);

        std::fs::write(dir.join("output"), "of the checks\n").unwrap();

        set_aside(dir, &dir.join("before-1"), Stream::Stdout).unwrap();

        assert_eq!(before(dir), [Before { name: "before-1".into(), resumed: true }]);
        assert_eq!(std::fs::read(dir.join("before-1/stdout")).unwrap(), b"one\n");
        assert!(!dir.join("stdout").exists() && dir.join("output").exists());
        // Begun and cut off: what lies there is not all of it.
        std::fs::create_dir(dir.join("before-2")).unwrap();
        assert_eq!(before(dir).len(), 1);
    }
}
