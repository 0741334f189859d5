//! The HTTP surface. A request passes, in this order:
//!
//! 1. [`serve`]: connections, their limits and their end; [`progress`] lets go of clients that take nothing;
//! 2. [`route`]: the raw target → a typed route, and [`target`]: the repository it means;
//! 3. [`handle`]: who may do that ([`admit`]), which URL clients know us by ([`forwarded`]), then the engine
//!    ([`fetched`]; [`virtuals`] finds the member that answers first) or a Local ([`locals`]);
//! 4. [`respond`]: content → response, by [`conditional`], [`range`] and [`caching`], all pure;
//! 5. [`body`]: bytes on their way out, in [`blocks`].
//!
//! What goes wrong is in one table ([`errors`]) and three shapes ([`refuse`]). There is no router crate and no
//! middleware: one match on [`route::Route`] is the table of contents, and every layer would cost the hit path.

pub mod admit;
pub mod blocks;
pub mod body;
pub mod caching;
pub mod conditional;
pub mod errors;
pub mod fetched;
pub mod forwarded;
pub mod handle;
pub mod health;
pub mod locals;
pub mod metrics_page;
pub mod origins;
pub mod passed;
pub mod post;
pub mod progress;
pub mod range;
pub mod refuse;
pub mod request_id;
pub mod respond;
pub mod route;
pub mod serve;
pub mod target;
pub mod tls;
pub mod virtuals;
pub mod waiting;
