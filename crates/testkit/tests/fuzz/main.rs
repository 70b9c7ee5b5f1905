//! The product's readers of what people and strangers write, with inputs that nobody thought of. The readers of what
//! engines say are put to the same test beside them, in `engines`.

mod bodies;
mod names;
mod written;
