//! The real binary, driven from outside: as a user at a terminal, as a program over HTTP, and with `kill -9`.

mod house;

mod configuration;
mod demo;
mod jobs;
mod ledger;
mod nodes;
mod protocols;
