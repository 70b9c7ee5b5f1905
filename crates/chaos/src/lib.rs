//! Chaos: faults injected into the real program, each by a seed, and the checks of what it promised.
//!
//! A *fault* ([`fault::Fault`]) says what it injects, how often, and what proves that its checks can fail: its controls.
//! [`gate`] runs faults and prints what came of them; [`faults`] lists them.
//!
//! What faults share: a *place* (a directory, a catalog, a ledger), *nodes* (the real binary as a process of its own),
//! *customers* who keep a journal of what was acknowledged, *marks* that the jobs leave of what was executed, and the
//! checks of a *ledger* against both. What was acknowledged is known from the client's side of HTTP, what was executed
//! from a file, so that neither rests on the ledger that is under test. A *campaign* puts them together: one place
//! through many cycles of start, load, kill and check, and an orderly end.
//!
//! Where it may be, nodes and databases have network namespaces of their own ([`ground`] chooses, [`network`] lays them), and
//! what passes between them is dropped on the way.
//!
//! A check that finds nothing proves nothing unless it can find something. Controls therefore run the same load, the same
//! injection and the same checks against [`drill`], a little node over the same store and the same rules that is either
//! sound or has exactly one flaw. It is built here, not into the product, so that the product holds no code that could
//! break its promises.
//!
//! Start at [`fault`].

pub mod fault;
pub mod faults;
pub mod gate;
pub mod options;
pub mod need;
pub mod row;
pub mod evidence;
pub mod violation;
pub mod place;
pub mod node;
pub mod http;
pub mod journal;
pub mod load;
pub mod service;
pub mod marks;
pub mod processes;
pub mod timeline;
pub mod ledger;
pub mod campaign;
pub mod drain;
pub mod rest;
pub mod authors;
pub mod span;
pub mod wire;
pub mod space;
pub mod network;
pub mod ground;
pub mod fleet;
pub mod cluster;
pub mod drill;
pub mod ledgers;
pub mod tool;
pub mod mount;
pub mod vitals;
