//! Typed keys and values over keyspaces of bytes.
//!
//! ```
//! # use logwood::{Database, Options};
//! # let directory = tempfile::tempdir()?;
//! # let db = Database::open(directory.path(), Options::new())?;
//! // Orders by customer and day.
//! let orders = db.ensure_keyspace("orders")?.typed::<(String, u32), u64>();
//! orders.put(("ada", 20), 5)?;
//! orders.put(("ada", 3), 7)?;
//! orders.put(("alan", 1), 9)?;
//! assert_eq!(orders.get(("ada", 20))?, Some(5));
//!
//! // In the order of the keys, numbers as numbers.
//! let of_ada = orders.prefix::<(String,)>(("ada",))?.collect::<Result<Vec<_>, _>>()?;
//! assert_eq!(of_ada, [(("ada".to_owned(), 3), 7), (("ada".to_owned(), 20), 5)]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | to | see |
//! |---|---|
//! | know how keys are encoded, or encode one's own | [`KeyCodec`] |
//! | the same for values | [`ValueCodec`] |
//! | read and write | [`TypedKeyspace`] |
//! | read in a snapshot or a transaction | [`View`], which both are |
//! | write in a batch, a transaction or a bulk write | [`Writes`], which they are; range deletes: [`RangeWrites`] |
//! | read or write a long value piece by piece | [`TypedKeyspace::bytes`], with [`KeyCodec::to_bytes`]: a piece has no type |
//!
//! A keyspace does not know its types: open it with the same ones each time. What does not decode is `InvalidArgument`,
//! not damage: the bytes are what was written, by whoever wrote them.

mod key;
mod keyspace;
mod value;
mod view;
mod walking;
mod writing;

pub use key::{KeyCodec, KeyReader, PrefixOf};
pub use keyspace::TypedKeyspace;
pub use value::ValueCodec;
pub use view::{RangeWrites, View, Writes};
pub use walking::TypedRange;

use logwood_base::Error;

/// The error of bytes that are not what the type says.
fn undecodable(what: &'static str) -> Error {
    Error::InvalidArgument(format!("the bytes are no {what}: the keyspace holds other types"))
}
