//! Services that every long-lived component uses: tracked tasks and shutdown, the clock, metrics, logging.

mod background;
mod bounded;
pub mod budget;
mod clock;
mod directory_watch;
mod epoch;
mod file_window;
mod flights;
mod folder;
mod metrics;
mod noted;
mod printable;
mod private;
mod readiness;
mod sharded;
mod tasks;
mod telemetry;
mod units;

pub use background::Background;
pub use bounded::{ALLOCATION, Bounded};
pub use clock::Clock;
pub use directory_watch::DirectoryWatch;
pub use epoch::{Epoch, Moment};
pub use file_window::{FileWindow, FileWindows};
pub use flights::{FlightReporter, Flights};
pub use folder::folder_names;
pub use metrics::Metrics;
pub use noted::Noted;
pub use printable::{printable, printable_lines};
pub use private::{create_private_dir, open_private};
pub use readiness::{BlockReady, Readiness, ReadinessReport};
pub use sharded::{BusyCounter, Sharded, ShardedCount, number_this_thread};
pub use tasks::{Tasks, Untracked};
pub use telemetry::{LogFormat, LogGuard, init as init_telemetry};
pub use units::{InvalidDuration, InvalidSize, format_duration, format_size, parse_duration, parse_size};
