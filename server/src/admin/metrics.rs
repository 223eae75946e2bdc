//! The figures in Prometheus's text format.
//!
//! Names follow its conventions: seconds and bytes, `_total` for what only goes up. `docs/OPERATIONS.md` lists every one;
//! a test holds the list, the dashboard and the alert rules to what is sent here.

use crate::figures::{Device, Figures};
use crate::store::stats::Latencies;
use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{Encoder, TextEncoder};

/// The format's name for HTTP.
pub(super) const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// Names and values of labels.
type Labels<'a> = &'a [(&'a str, &'a str)];

/// The text that `/metrics` sends.
pub(super) fn text(figures: &Figures) -> Result<Vec<u8>, prometheus::Error> {
    let mut out = Families::default();
    server(figures, &mut out);
    operations(figures, &mut out);
    records(figures, &mut out);
    reads(figures, &mut out);
    space(figures, &mut out);
    jobs(figures, &mut out);
    devices(&figures.devices, &mut out);
    let mut text = Vec::new();
    TextEncoder::new().encode(&out.0, &mut text)?;
    Ok(text)
}

/// The families so far. One without samples is left out: the format has no place for it.
#[derive(Default)]
struct Families(Vec<MetricFamily>);

impl Families {
    fn push(&mut self, name: &str, help: &str, kind: MetricType, metrics: Vec<Metric>) {
        if metrics.is_empty() {
            return;
        }
        let mut family = MetricFamily::default();
        family.set_name(name.to_owned());
        family.set_help(help.to_owned());
        family.set_field_type(kind);
        family.set_metric(metrics);
        self.0.push(family);
    }

    /// What goes up and down, once for each of `samples`.
    fn gauges<'a>(&mut self, name: &str, help: &str, samples: impl IntoIterator<Item = (Labels<'a>, f64)>) {
        let metric = |(pairs, value): (Labels<'a>, f64)| {
            let mut metric = Metric::from_label(labels(pairs));
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
            metric
        };
        self.push(name, help, MetricType::GAUGE, samples.into_iter().map(metric).collect());
    }

    /// What only goes up, once for each of `samples`.
    fn counters<'a>(&mut self, name: &str, help: &str, samples: impl IntoIterator<Item = (Labels<'a>, f64)>) {
        let metric = |(pairs, value): (Labels<'a>, f64)| {
            let mut metric = Metric::from_label(labels(pairs));
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
            metric
        };
        self.push(name, help, MetricType::COUNTER, samples.into_iter().map(metric).collect());
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Number) {
        self.gauges(name, help, [(&[][..], value.number())]);
    }

    fn counter(&mut self, name: &str, help: &str, value: impl Number) {
        self.counters(name, help, [(&[][..], value.number())]);
    }

    /// Durations, in seconds; their borders are powers of two of a microsecond, where the counts are exact.
    fn durations<'a>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'a>, &'a Latencies)>,
    ) {
        let bucket = |(end_ns, count): (u64, u64)| {
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(end_ns as f64 / 1e9);
            bucket.set_cumulative_count(count);
            bucket
        };
        let metric = |(pairs, latencies): (Labels<'a>, &Latencies)| {
            let mut metric = Metric::from_label(labels(pairs));
            let mut histogram = Histogram::default();
            histogram.set_sample_count(latencies.count());
            histogram.set_sample_sum(latencies.nanoseconds() as f64 / 1e9);
            histogram.set_bucket(latencies.cumulative().map(bucket).collect());
            metric.set_histogram(histogram);
            metric
        };
        self.push(name, help, MetricType::HISTOGRAM, samples.into_iter().map(metric).collect());
    }
}

/// What a sample's value can be made of.
trait Number {
    fn number(self) -> f64;
}

impl Number for u64 {
    fn number(self) -> f64 {
        self as f64
    }
}

impl Number for f64 {
    fn number(self) -> f64 {
        self
    }
}

impl Number for bool {
    fn number(self) -> f64 {
        f64::from(u8::from(self))
    }
}

fn labels(pairs: Labels<'_>) -> Vec<LabelPair> {
    let label = |&(name, value): &(&str, &str)| {
        let mut label = LabelPair::default();
        label.set_name(name.to_owned());
        label.set_value(value.to_owned());
        label
    };
    pairs.iter().map(label).collect()
}

fn server(figures: &Figures, out: &mut Families) {
    let (process, connections) = (&figures.process, &figures.connections);
    out.gauges(
        "aerolith_build_info",
        "1, with the version as a label.",
        [(&[("version", figures.version)][..], 1.0)],
    );
    out.gauge(
        "aerolith_ready",
        "1 when the data is there and commands are served.",
        figures.state == "ready",
    );
    out.gauge(
        "aerolith_loading_ratio",
        "Share of the blocks' bytes that the start has looked at.",
        figures.loading.percent / 100.0,
    );
    out.gauge("aerolith_uptime_seconds", "Time since the start.", figures.uptime_s);
    out.gauge("aerolith_workers", "Worker threads.", process.workers as u64);
    out.counters(
        "aerolith_cpu_seconds_total",
        "Processor time of the process.",
        [(&[("mode", "user")][..], process.cpu_user_s), (&[("mode", "system")][..], process.cpu_system_s)],
    );
    out.gauges(
        "aerolith_connections",
        "Open connections.",
        [(&[("protocol", "redis")][..], connections.redis as f64)],
    );
    out.gauge("aerolith_connections_max", "Connections that are let in at a time.", connections.max);
    out.gauge(
        "aerolith_connections_blocked",
        "Connections that wait in WAIT or WAITAOF.",
        connections.blocked,
    );
    out.counter("aerolith_connections_accepted_total", "Connections let in.", connections.accepted);
    out.counter(
        "aerolith_connections_rejected_total",
        "Connections turned away at the maximum.",
        connections.rejected,
    );
    out.counter(
        "aerolith_connections_closed_slow_total",
        "Connections closed because they did not keep the pace.",
        connections.closed_slow,
    );
    out.counter(
        "aerolith_protocol_errors_total",
        "Connections closed over what they sent.",
        connections.protocol_errors,
    );
    out.counter("aerolith_panics_total", "Commands that panicked: bugs.", connections.panics);
    out.counter(
        "aerolith_network_received_bytes_total",
        "Bytes that clients sent.",
        connections.received_bytes,
    );
    out.counter("aerolith_network_sent_bytes_total", "Bytes that clients were sent.", connections.sent_bytes);
    let memory = &figures.memory;
    out.gauge("aerolith_resident_memory_bytes", "Physical memory of the process.", memory.resident_bytes);
    out.gauges(
        "aerolith_memory_bytes",
        "The same by what it is for.",
        [
            (&[("part", "index")][..], memory.index_bytes as f64),
            (&[("part", "write_buffer")][..], memory.write_buffer_bytes as f64),
            (&[("part", "post_write_cache")][..], memory.post_write_cache_bytes as f64),
            (&[("part", "read_cache")][..], memory.read_cache_bytes as f64),
            (&[("part", "other")][..], memory.other_bytes as f64),
        ],
    );
    out.gauge(
        "aerolith_index_bytes_per_record",
        "RAM of the index for each of its entries.",
        memory.index_bytes_per_record,
    );
}

fn operations(figures: &Figures, out: &mut Families) {
    let pairs: Vec<_> =
        figures.operations.iter().map(|each| [("protocol", each.protocol), ("class", each.class)]).collect();
    let samples = pairs.iter().zip(&figures.operations).map(|(pairs, each)| (&pairs[..], &each.latencies));
    out.durations(
        "aerolith_operation_seconds",
        "From when a command was parsed until its reply was queued.",
        samples,
    );
    out.durations(
        "aerolith_commit_seconds",
        "Durable writes of the log, from submit until durable.",
        [(&[][..], &figures.commits.latencies)],
    );
    out.counter(
        "aerolith_operations_failed_total",
        "Commands answered with an error.",
        figures.errors.failed_commands,
    );
    out.counter("aerolith_slow_commands_total", "Commands that went to the slow log.", figures.slow.count);
}

fn records(figures: &Figures, out: &mut Families) {
    let records = &figures.records;
    out.gauge("aerolith_records", "Records, all sets.", records.objects);
    out.gauge("aerolith_records_expiring", "Records with a time to live.", records.expiring);
    out.gauge(
        "aerolith_tombstones",
        "Entries of the index that stand for deleted records.",
        records.tombstones,
    );
    out.counter(
        "aerolith_tombstones_removed_total",
        "Tombstones with nothing left to hide.",
        records.tombstones_removed,
    );
    out.counter("aerolith_records_written_total", "Records written by clients.", records.written);
    out.counter("aerolith_records_deleted_total", "Records deleted by clients.", records.deleted);
    out.counter("aerolith_records_expired_total", "Records that have expired.", records.expired);
    out.counter("aerolith_records_evicted_total", "Records evicted before their time.", records.evicted);
    out.counter("aerolith_records_moved_total", "Records that defrag moved.", records.moved);
    out.counter(
        "aerolith_records_overwritten_in_place_total",
        "Records that replaced their older version while that was in RAM.",
        records.overwritten_in_place,
    );
    out.counter(
        "aerolith_corrupt_records_total",
        "Reads of records that did not prove themselves.",
        figures.errors.corrupt_records,
    );
    out.counter(
        "aerolith_writes_refused_total",
        "Writes refused because the space is used up.",
        figures.errors.writes_refused,
    );
}

fn reads(figures: &Figures, out: &mut Families) {
    let reads = &figures.reads;
    out.counters(
        "aerolith_reads_total",
        "Reads of records by what they found.",
        [(&[("result", "hit")][..], reads.hits as f64), (&[("result", "miss")][..], reads.misses as f64)],
    );
    out.counters(
        "aerolith_reads_by_source_total",
        "Reads of records by where the record was.",
        [
            (&[("source", "write_buffer")][..], reads.write_buffer as f64),
            (&[("source", "post_write_cache")][..], reads.post_write_cache as f64),
            (&[("source", "read_cache")][..], reads.read_cache as f64),
            (&[("source", "device")][..], reads.device as f64),
        ],
    );
}

fn space(figures: &Figures, out: &mut Families) {
    let space = &figures.space;
    out.gauge("aerolith_used_bytes", "Live records on the devices.", space.used_bytes);
    out.gauge(
        "aerolith_used_limit_bytes",
        "Writes are refused when live records take more.",
        space.used_limit_bytes,
    );
    out.gauge(
        "aerolith_write_amplification",
        "Bytes appended for each byte that clients wrote.",
        space.write_amplification,
    );
    out.gauge(
        "aerolith_space_amplification",
        "Bytes of blocks in use for each byte of a live record.",
        space.space_amplification,
    );
}

fn jobs(figures: &Figures, out: &mut Families) {
    let (queues, checkpoint, scrub) = (&figures.queues, &figures.checkpoint, &figures.scrub);
    out.gauge("aerolith_flush_queue_blocks", "Full blocks that wait for the device.", queues.flush_blocks);
    out.gauge(
        "aerolith_settling_blocks",
        "Empty blocks that wait until what was appended is durable.",
        queues.settling_blocks,
    );
    out.gauge(
        "aerolith_defrag_queue_blocks",
        "Blocks that defrag should free; 0: it rests.",
        queues.defrag_blocks,
    );
    out.counter("aerolith_defragged_blocks_total", "Blocks that defrag emptied.", queues.defragged_blocks);
    out.gauge(
        "aerolith_oldest_unflushed_seconds",
        "How long the oldest write that is not durable has waited; 0: all are.",
        queues.oldest_unflushed_ms as f64 / 1000.0,
    );
    out.counter("aerolith_writer_waits_total", "Times that a writer waited for space.", queues.writer_waits);
    out.gauge("aerolith_checkpoint_entries", "Entries of the newest checkpoint.", checkpoint.entries);
    out.gauge("aerolith_checkpoint_blocks", "Blocks that checkpoints take.", checkpoint.blocks);
    out.gauge(
        "aerolith_checkpoint_timestamp_seconds",
        "When the last checkpoint was written, Unix time; 0: none since the start.",
        checkpoint.written_ms as f64 / 1000.0,
    );
    out.gauge("aerolith_checkpoint_writing", "1 while a checkpoint is written.", checkpoint.is_writing);
    out.counter("aerolith_checkpoints_written_total", "Checkpoints written.", checkpoint.written);
    out.counter(
        "aerolith_checkpoints_skipped_total",
        "Checkpoints not written for want of room.",
        checkpoint.skipped,
    );
    out.counter("aerolith_scrub_passes_total", "Times the scrub has looked at every block.", scrub.passes);
    out.counter("aerolith_scrubbed_bytes_total", "Bytes that the scrub has read.", scrub.bytes);
    out.counter("aerolith_scrub_faults_total", "Damage that the scrub has found.", scrub.faults);
}

fn devices(devices: &[Device], out: &mut Families) {
    let pairs: Vec<_> = devices.iter().map(|device| [("device", &device.path[..])]).collect();
    let each = |value: fn(&Device) -> u64| {
        pairs.iter().zip(devices).map(move |(pairs, device)| (&pairs[..], value(device) as f64))
    };
    out.gauges("aerolith_device_size_bytes", "All blocks of the device.", each(|device| device.size_bytes));
    out.gauges("aerolith_device_used_bytes", "Live records on the device.", each(|device| device.used_bytes));
    out.gauges(
        "aerolith_device_available_bytes",
        "Free blocks of the device.",
        each(|device| device.free_blocks * device.block_bytes),
    );
    out.gauges(
        "aerolith_device_failed",
        "1 if the device takes no more writes.",
        each(|device| device.latched.is_some().into()),
    );
    out.counters(
        "aerolith_device_errors_total",
        "Requests that the device answered with an error.",
        each(|device| device.errors),
    );
    out.counters("aerolith_device_reads_total", "Reads that the device served.", each(|device| device.reads));
    out.counters(
        "aerolith_device_writes_total",
        "Writes that the device served.",
        each(|device| device.writes),
    );
    out.counters(
        "aerolith_device_read_bytes_total",
        "Bytes read from the device.",
        each(|device| device.read_bytes),
    );
    out.counters(
        "aerolith_device_written_bytes_total",
        "Bytes written to the device.",
        each(|device| device.written_bytes),
    );
    let kinds = devices.iter().flat_map(|device| {
        let path = &device.path[..];
        [("fresh", device.fresh_bytes), ("moved", device.moved_bytes), ("footer", device.footer_bytes)]
            .map(|(kind, bytes)| ([("device", path), ("kind", kind)], bytes as f64))
    });
    let kinds: Vec<_> = kinds.collect();
    out.counters(
        "aerolith_log_bytes_total",
        "Bytes appended for clients (fresh), by defrag (moved), and as footers of blocks.",
        kinds.iter().map(|(pairs, bytes)| (&pairs[..], *bytes)),
    );
    let states = devices.iter().flat_map(|device| {
        let (path, states) = (&device.path[..], &device.states);
        [
            ("free", states.free),
            ("open", states.open),
            ("flushing", states.flushing),
            ("sealed", states.sealed),
            ("settling", states.settling),
            ("checkpoint", states.checkpoint),
            ("defrag", states.defrag),
            ("damaged", states.damaged),
        ]
        .map(|(state, count)| ([("device", path), ("state", state)], count as f64))
    });
    let states: Vec<_> = states.collect();
    out.gauges(
        "aerolith_device_blocks",
        "Blocks by what they are.",
        states.iter().map(|(pairs, count)| (&pairs[..], *count)),
    );
}
