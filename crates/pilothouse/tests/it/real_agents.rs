//! Real agents under real processes of the product, of which one or all are killed.
//!
//! [`matrix`] says who is killed when and what is promised then; [`questions`] kills everybody while people are asked.

mod processes;
mod site;

mod matrix;
mod questions;
