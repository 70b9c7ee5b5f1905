//! What is measured of engines, and what is asked of it.

use testkit::bench::report::{Figure, Goal};

/// One figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Row {
    Added,
    AddedBubblewrap,
    AddedLandlock,
    Events,
    Flood,
    Trees,
    Live,
    Sixteen,
}

impl Row {
    pub(crate) const ALL: [Self; 8] = [
        Self::Added,
        Self::AddedBubblewrap,
        Self::AddedLandlock,
        Self::Events,
        Self::Flood,
        Self::Trees,
        Self::Live,
        Self::Sixteen,
    ];

    /// Whether one round of it takes minutes.
    pub(crate) fn is_long(self) -> bool {
        matches!(self, Self::Flood | Self::Trees)
    }

    pub(crate) fn figure(self) -> Figure {
        let less =
            |name, unit, must, aim| Figure { name, unit, limit: None, goal: Goal { must, aim, less_is_better: true } };
        let more = |name, unit, must, aim| Figure {
            goal: Goal { must, aim, less_is_better: false },
            ..less(name, unit, must, aim)
        };
        match self {
            Self::Added => less("engine-added", "ms (p50)", 10.0, 5.0),
            Self::AddedBubblewrap => less("engine-added-bubblewrap", "ms (p50)", 30.0, 20.0),
            Self::AddedLandlock => less("engine-added-landlock", "ms (p50)", 30.0, 20.0),
            Self::Events => more("engine-events", "events/s", 200_000.0, 400_000.0),
            Self::Flood => less("engine-flood", "MiB grown", 4.0, 1.0),
            Self::Trees => less("engine-trees", "ms (p99)", 250.0, 100.0),
            Self::Live => less("engine-live", "ms (p99)", 50.0, 30.0),
            Self::Sixteen => less("engine-sixteen", "events lost", 0.0, 0.0),
        }
    }
}
