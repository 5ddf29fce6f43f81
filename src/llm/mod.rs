//! What is said to a model and what comes back, neutral to providers. Pure.

mod neighbour;
mod reply;
mod request;
mod slots;
mod verify;

/// Tokens as the provider counted them.
pub use crate::models::Tokens as Usage;
pub use reply::{Answer, Shortfall, Split, Splitting, Stop, single};
pub use request::{Ask, Request, context_saved, framed, slot, unframed};
pub use verify::{Complaint, Demand, Test, as_said, fits, verify};
