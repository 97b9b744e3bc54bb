//! Services that every long-lived component uses: tracked tasks and shutdown, the clock, metrics, logging.

mod background;
mod bloom_filter;
mod bounded;
pub mod budget;
mod clock;
mod directory_watch;
mod epoch;
mod expiring;
mod file_window;
mod flights;
mod folder;
mod histogram;
mod links;
mod log_limit;
mod metrics;
mod noted;
mod pem;
mod plain_file;
mod printable;
mod private;
mod process;
mod readiness;
mod secret;
mod service_manager;
mod sharded;
mod shown_url;
mod tasks;
mod telemetry;
mod trace;
mod units;

pub use background::Background;
pub use bloom_filter::BloomFilter;
pub use bounded::{ALLOCATION, Bounded};
pub use clock::{Clock, signed_duration};
pub use directory_watch::DirectoryWatch;
pub use epoch::{Epoch, Moment};
pub use expiring::Expiring;
pub use file_window::{FileWindow, FileWindows};
pub use flights::{FlightReporter, Flights};
pub use folder::{folder_names, parent_folder};
pub use histogram::BusyHistogram;
pub use links::{is_descriptor, resolved_path};
pub use log_limit::LogLimit;
pub use metrics::Metrics;
pub use noted::Noted;
pub use pem::{instead_of_pem, pem_problem, pem_text};
pub use plain_file::{load_plain_file, open_plain_file, read_plain_file, read_plain_text};
pub use printable::{printable, printable_lines};
pub use private::{create_private_dir, open_private};
pub use readiness::{BlockReady, Readiness, ReadinessReport};
pub use secret::{Secret, read_token};
pub use service_manager::{keep_watchdog, notify_ready, notify_reloading, notify_stopping};
pub use sharded::{BusyCounter, Sharded, ShardedCount, number_this_thread};
pub use shown_url::{shown_origin, shown_url};
pub use tasks::{Tasks, Untracked};
pub use telemetry::{LogFormat, LogGuard, check_log_filter, hides_errors, init as init_telemetry, set_log_filter};
pub use trace::{ContentSource, Learned, Phase, PhaseTime, RequestTrace, SpanContext};
pub use units::{
    InvalidDuration, InvalidSize, counted, format_duration, format_size, parse_duration, parse_size, rounded_duration,
    rounded_size,
};
