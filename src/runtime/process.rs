//! Metrics of the process itself, by the names that Prometheus's client libraries use for them.

use std::fmt;

use procfs::process::{LimitValue, Process};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// Reads `/proc/self` whenever metrics are rendered. Values that cannot be read have no metric.
#[derive(Debug)]
pub(super) struct ProcessCollector;

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Ok(process) = Process::myself() else { return Ok(()) };
        if let Ok(stat) = process.stat() {
            let ticks = |count: u64| count as f64 / procfs::ticks_per_second() as f64;
            let cpu = ConstCounter::new(ticks(stat.utime + stat.stime));
            encode(&mut encoder, "process_cpu_seconds", "CPU time, user and system", &cpu)?;
            let resident = ConstGauge::new(stat.rss.saturating_mul(procfs::page_size()));
            encode(&mut encoder, "process_resident_memory_bytes", "Resident memory", &resident)?;
            let virtual_memory = ConstGauge::new(stat.vsize);
            encode(&mut encoder, "process_virtual_memory_bytes", "Virtual memory", &virtual_memory)?;
            if let Ok(boot) = procfs::boot_time_secs() {
                let start = ConstGauge::new(boot as f64 + ticks(stat.starttime));
                encode(&mut encoder, "process_start_time_seconds", "Start of the process, since the epoch", &start)?;
            }
        }
        if let Ok(count) = process.fd_count() {
            let open = ConstGauge::new(count as u64);
            encode(&mut encoder, "process_open_fds", "Open file descriptors", &open)?;
        }
        if let Ok(limits) = process.limits()
            && let LimitValue::Value(limit) = limits.max_open_files.soft_limit
        {
            let max = ConstGauge::new(limit);
            encode(&mut encoder, "process_max_fds", "The maximum number of open file descriptors", &max)?;
        }
        Ok(())
    }
}

fn encode(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, metric: &impl EncodeMetric) -> fmt::Result {
    metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
}
