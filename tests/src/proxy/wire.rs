//! Just enough of Kafka's wire format: request headers, the answers that carry broker addresses,
//! and the error answers of the transactional requests.
//!
//! Written from the protocol's published message definitions. Versions that librdkafka 2.12 does
//! not send are handled where they cost nothing.

use std::fmt;

use super::codec::{Answer, Cursor, Edit};

/// Requests that rules can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ApiKey {
    /// Records to a partition.
    Produce,
    /// Records from a partition.
    Fetch,
    /// Offsets of timestamps, and ends of logs.
    ListOffsets,
    /// Brokers, topics and leaders.
    Metadata,
    /// Offsets of a group, outside transactions.
    OffsetCommit,
    /// Committed offsets of a group.
    OffsetFetch,
    /// Who coordinates a group or a transactional id.
    FindCoordinator,
    /// Joining a group.
    JoinGroup,
    /// "I am alive" to a group.
    Heartbeat,
    /// Leaving a group.
    LeaveGroup,
    /// Who owns what in a group.
    SyncGroup,
    /// What the broker speaks.
    ApiVersions,
    /// A producer's id and epoch.
    InitProducerId,
    /// Partitions that join a transaction.
    AddPartitionsToTxn,
    /// A group whose offsets join a transaction.
    AddOffsetsToTxn,
    /// Commit or abort.
    EndTxn,
    /// Offsets inside a transaction.
    TxnOffsetCommit,
    /// Brokers of the cluster.
    DescribeCluster,
    /// Anything else.
    Other(i16),
}

const KEYS: [(i16, ApiKey); 18] = [
    (0, ApiKey::Produce),
    (1, ApiKey::Fetch),
    (2, ApiKey::ListOffsets),
    (3, ApiKey::Metadata),
    (8, ApiKey::OffsetCommit),
    (9, ApiKey::OffsetFetch),
    (10, ApiKey::FindCoordinator),
    (11, ApiKey::JoinGroup),
    (12, ApiKey::Heartbeat),
    (13, ApiKey::LeaveGroup),
    (14, ApiKey::SyncGroup),
    (18, ApiKey::ApiVersions),
    (22, ApiKey::InitProducerId),
    (24, ApiKey::AddPartitionsToTxn),
    (25, ApiKey::AddOffsetsToTxn),
    (26, ApiKey::EndTxn),
    (28, ApiKey::TxnOffsetCommit),
    (60, ApiKey::DescribeCluster),
];

impl ApiKey {
    fn of(number: i16) -> Self {
        KEYS.iter()
            .find(|(known, _)| *known == number)
            .map_or(Self::Other(number), |(_, key)| *key)
    }

    /// The first version with compact strings and tagged fields.
    fn first_flexible(self) -> i16 {
        match self {
            Self::Produce | Self::Metadata => 9,
            Self::DescribeCluster => 0,
            Self::Fetch => 12,
            Self::FindCoordinator
            | Self::ApiVersions
            | Self::AddPartitionsToTxn
            | Self::AddOffsetsToTxn
            | Self::EndTxn
            | Self::TxnOffsetCommit => 3,
            _ => i16::MAX,
        }
    }

    pub(super) fn is_flexible(self, version: i16) -> bool {
        version >= self.first_flexible()
    }
}

impl fmt::Display for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What a request frame says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestHeader {
    /// Which request.
    pub api: ApiKey,
    /// Its version.
    pub version: i16,
    /// Which answer belongs to it.
    pub correlation: i32,
}

/// A frame that is not what the protocol says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

pub(super) type Result<T> = std::result::Result<T, Malformed>;

/// Reads a request's header; `frame` is without its length.
pub fn request_header(frame: &[u8]) -> Result<RequestHeader> {
    let mut cursor = Cursor::new(frame, false);
    let api = ApiKey::of(cursor.i16()?);
    let version = cursor.i16()?;
    let correlation = cursor.i32()?;
    Ok(RequestHeader {
        api,
        version,
        correlation,
    })
}

/// Whether an EndTxn request asks for a commit (and not for an abort).
pub fn end_txn_commits(frame: &[u8]) -> Result<bool> {
    let (header, mut body) = request_body(frame)?;
    if header.api != ApiKey::EndTxn {
        return Err(Malformed);
    }
    body.string()?;
    body.take(8 + 2)?;
    Ok(body.take(1)? != [0])
}

/// Whether a FindCoordinator request asks for a group's coordinator (and not for a transaction's).
pub fn find_coordinator_of_group(frame: &[u8]) -> Result<bool> {
    let (header, mut body) = request_body(frame)?;
    // Later versions have the kind before the keys; librdkafka does not speak them.
    if header.api != ApiKey::FindCoordinator || !(1..=3).contains(&header.version) {
        return Err(Malformed);
    }
    body.string()?;
    Ok(body.take(1)? == [0])
}

/// The correlation id of an answer.
pub fn correlation(frame: &[u8]) -> Result<i32> {
    Cursor::new(frame, false).i32()
}

/// Highest versions that the proxy lets clients see. Later ones of Produce and Fetch tell a
/// client where a new leader listens (KIP-951), deep inside the answer; without them clients ask
/// for metadata, which the proxy rewrites.
fn highest_shown(api: ApiKey) -> Option<i16> {
    match api {
        ApiKey::Produce => Some(9),
        ApiKey::Fetch => Some(15),
        _ => None,
    }
}

/// Rewrites an answer so that its reader stays on the proxy: addresses are mapped by `route`,
/// and versions that carry addresses elsewhere are hidden.
pub fn rewrite(
    api: ApiKey,
    version: i16,
    frame: &[u8],
    route: &mut dyn FnMut(&str, i32) -> (String, i32),
) -> Result<Vec<u8>> {
    match api {
        ApiKey::ApiVersions => hide_versions(version, frame),
        ApiKey::Metadata => rewrite_metadata(version, frame, route),
        ApiKey::FindCoordinator => rewrite_coordinator(version, frame, route),
        ApiKey::DescribeCluster => rewrite_cluster(version, frame, route),
        _ => Ok(frame.to_vec()),
    }
}

fn hide_versions(version: i16, frame: &[u8]) -> Result<Vec<u8>> {
    let flexible = version >= 3;
    let mut out = frame.to_vec();
    // This answer alone has a header without tags in its flexible versions.
    let mut cursor = Cursor::new(frame, flexible);
    cursor.i32()?;
    if cursor.i16()? != 0 {
        return Ok(out);
    }
    for _ in 0..cursor.array()? {
        let api = ApiKey::of(cursor.i16()?);
        cursor.i16()?;
        let at = cursor.at;
        let highest = cursor.i16()?;
        cursor.tags()?;
        if let Some(shown) = highest_shown(api)
            && highest > shown
        {
            out[at..at + 2].copy_from_slice(&shown.to_be_bytes());
        }
    }
    Ok(out)
}

fn rewrite_metadata(
    version: i16,
    frame: &[u8],
    route: &mut dyn FnMut(&str, i32) -> (String, i32),
) -> Result<Vec<u8>> {
    let mut edit = Edit::response(ApiKey::Metadata, version, frame)?;
    if version >= 3 {
        edit.copy_bytes(4)?;
    }
    for _ in 0..edit.copy_array()? {
        edit.copy_bytes(4)?;
        edit.map_address(route)?;
        if version >= 1 {
            edit.copy_string()?;
        }
        edit.copy_tags()?;
    }
    Ok(edit.finish())
}

/// The same metadata of a cluster that has no broker at the moment, and so no leaders. From the first
/// version on that has all of this in it.
pub fn without_brokers(header: RequestHeader, frame: &[u8]) -> Result<Vec<u8>> {
    const LEADER_NOT_AVAILABLE: i16 = 5;
    if header.api != ApiKey::Metadata || header.version < 10 {
        return Err(Malformed);
    }
    let mut edit = Edit::response(header.api, header.version, frame)?;
    edit.copy_bytes(4)?;
    for _ in 0..edit.from.array()? {
        edit.from.take(4)?;
        edit.from.string()?;
        edit.from.take(4)?;
        edit.from.string()?;
        edit.from.tags()?;
    }
    edit.to.array(0);
    edit.copy_string()?;
    edit.from.i32()?;
    edit.to.i32(-1);
    for _ in 0..edit.copy_array()? {
        edit.copy_bytes(2)?;
        edit.copy_string()?;
        edit.copy_bytes(16 + 1)?;
        for _ in 0..edit.copy_array()? {
            edit.from.i16()?;
            edit.to.i16(LEADER_NOT_AVAILABLE);
            edit.copy_bytes(4)?;
            edit.from.i32()?;
            edit.to.i32(-1);
            edit.copy_bytes(4)?;
            for _replicas_in_sync_offline in 0..3 {
                let nodes = edit.copy_array()?;
                edit.copy_bytes(4 * nodes)?;
            }
            edit.copy_tags()?;
        }
        edit.copy_bytes(4)?;
        edit.copy_tags()?;
    }
    Ok(edit.finish())
}

fn rewrite_coordinator(
    version: i16,
    frame: &[u8],
    route: &mut dyn FnMut(&str, i32) -> (String, i32),
) -> Result<Vec<u8>> {
    let mut edit = Edit::response(ApiKey::FindCoordinator, version, frame)?;
    if version >= 1 {
        edit.copy_bytes(4)?;
    }
    if version >= 4 {
        for _ in 0..edit.copy_array()? {
            edit.copy_string()?;
            edit.copy_bytes(4)?;
            edit.map_address(route)?;
            edit.copy_bytes(2)?;
            edit.copy_string()?;
            edit.copy_tags()?;
        }
    } else {
        edit.copy_bytes(2)?;
        if version >= 1 {
            edit.copy_string()?;
        }
        edit.copy_bytes(4)?;
        edit.map_address(route)?;
    }
    Ok(edit.finish())
}

fn rewrite_cluster(
    version: i16,
    frame: &[u8],
    route: &mut dyn FnMut(&str, i32) -> (String, i32),
) -> Result<Vec<u8>> {
    let mut edit = Edit::response(ApiKey::DescribeCluster, version, frame)?;
    edit.copy_bytes(4 + 2)?;
    edit.copy_string()?;
    if version >= 1 {
        edit.copy_bytes(1)?;
    }
    edit.copy_string()?;
    edit.copy_bytes(4)?;
    for _ in 0..edit.copy_array()? {
        edit.copy_bytes(4)?;
        edit.map_address(route)?;
        edit.copy_string()?;
        if version >= 2 {
            edit.copy_bytes(1)?;
        }
        edit.copy_tags()?;
    }
    Ok(edit.finish())
}

/// The answer that refuses `request` with error `code`, as the broker would have written it.
/// `None` for requests that the harness does not refuse.
pub fn refusal(request: &[u8], code: i16) -> Result<Option<Vec<u8>>> {
    let (header, mut body) = request_body(request)?;
    let flexible = header.api.is_flexible(header.version);
    let mut out = Answer::new(header.correlation, flexible);
    let version = header.version;
    match header.api {
        ApiKey::AddOffsetsToTxn | ApiKey::EndTxn if version <= 4 => {
            out.i32(0);
            out.i16(code);
        }
        ApiKey::InitProducerId if version <= 1 => {
            out.i32(0);
            out.i16(code);
            out.i64(-1);
            out.i16(-1);
        }
        ApiKey::AddPartitionsToTxn if version <= 3 => {
            body.string()?;
            body.take(8 + 2)?;
            out.i32(0);
            let topics = body.array()?;
            out.array(topics);
            for _ in 0..topics {
                let name = body.string()?;
                out.string(name);
                let partitions = body.array()?;
                out.array(partitions);
                for _ in 0..partitions {
                    out.i32(body.i32()?);
                    out.i16(code);
                    out.tags();
                }
                body.tags()?;
                out.tags();
            }
        }
        ApiKey::TxnOffsetCommit if version <= 4 => {
            body.string()?;
            body.string()?;
            body.take(8 + 2)?;
            if version >= 3 {
                body.take(4)?;
                body.string()?;
                body.string()?;
            }
            out.i32(0);
            let topics = body.array()?;
            out.array(topics);
            for _ in 0..topics {
                let name = body.string()?;
                out.string(name);
                let partitions = body.array()?;
                out.array(partitions);
                for _ in 0..partitions {
                    out.i32(body.i32()?);
                    body.take(8)?;
                    if version >= 2 {
                        body.take(4)?;
                    }
                    body.string()?;
                    body.tags()?;
                    out.i16(code);
                    out.tags();
                }
                body.tags()?;
                out.tags();
            }
        }
        ApiKey::Produce if (3..=11).contains(&version) => {
            body.string()?;
            body.take(2 + 4)?;
            let topics = body.array()?;
            out.array(topics);
            for _ in 0..topics {
                let name = body.string()?;
                out.string(name);
                let partitions = body.array()?;
                out.array(partitions);
                for _ in 0..partitions {
                    out.i32(body.i32()?);
                    body.records()?;
                    body.tags()?;
                    out.i16(code);
                    out.i64(-1);
                    out.i64(-1);
                    if version >= 5 {
                        out.i64(-1);
                    }
                    if version >= 8 {
                        out.array(0);
                        out.string(None);
                    }
                    out.tags();
                }
                body.tags()?;
                out.tags();
            }
            out.i32(0);
        }
        _ => return Ok(None),
    }
    out.tags();
    Ok(Some(out.bytes))
}

fn request_body(frame: &[u8]) -> Result<(RequestHeader, Cursor<'_>)> {
    let header = request_header(frame)?;
    let mut cursor = Cursor::new(frame, false);
    cursor.take(2 + 2 + 4)?;
    // The client id keeps its old form in every version.
    cursor.string()?;
    cursor.flexible = header.api.is_flexible(header.version);
    cursor.tags()?;
    Ok((header, cursor))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to_proxy(host: &str, port: i32) -> (String, i32) {
        (format!("proxy-of-{host}"), port + 1)
    }

    #[test]
    fn addresses_in_a_classic_coordinator_answer_are_mapped() {
        let mut frame = Answer::new(7, false);
        frame.i32(0);
        frame.i16(0);
        frame.string(None);
        frame.i32(2);
        frame.string(Some(b"broker"));
        frame.i32(9092);
        let edited = rewrite(ApiKey::FindCoordinator, 2, &frame.bytes, &mut to_proxy).unwrap();
        let mut cursor = Cursor::new(&edited, false);
        assert_eq!(cursor.i32(), Ok(7));
        cursor.take(4 + 2).unwrap();
        assert_eq!(cursor.string(), Ok(None));
        assert_eq!(cursor.i32(), Ok(2));
        assert_eq!(cursor.string(), Ok(Some(&b"proxy-of-broker"[..])));
        assert_eq!(cursor.i32(), Ok(9093));
        assert_eq!(cursor.at, edited.len());
    }

    #[test]
    fn the_coordinator_of_a_group_is_told_from_that_of_a_transaction() {
        for (kind, is_group) in [(0_u8, Ok(true)), (1, Ok(false))] {
            let mut frame = vec![0, 10, 0, 2, 0, 0, 0, 7];
            frame.extend(*b"\x00\x02me\x00\x04some");
            frame.push(kind);
            assert_eq!(find_coordinator_of_group(&frame), is_group);
        }
        let of_version_4 = [0, 10, 0, 4, 0, 0, 0, 7, 0, 0, 0, 0, 2, 1, 0];
        assert_eq!(find_coordinator_of_group(&of_version_4), Err(Malformed));
    }

    /// A flexible metadata answer with two brokers, and one partition.
    fn metadata(hosts: [&[u8]; 2], port: i32) -> Answer {
        let mut frame = Answer::new(7, true);
        frame.i32(0);
        frame.array(2);
        for (id, host) in (1..).zip(hosts) {
            frame.i32(id);
            frame.string(Some(host));
            frame.i32(port);
            frame.string(None);
            frame.tags();
        }
        frame.string(Some(b"cluster"));
        topics(&mut frame, 1, 0);
        frame
    }

    /// The controller's id, and the topics.
    fn topics(frame: &mut Answer, leader: i32, error: i16) {
        frame.i32(leader);
        frame.array(1);
        frame.i16(0);
        frame.string(Some(b"topic"));
        frame.bytes.extend([9; 16 + 1]);
        frame.array(1);
        frame.i16(error);
        frame.i32(3);
        frame.i32(leader);
        frame.i32(11);
        for nodes in [&[1, 2][..], &[1], &[]] {
            frame.array(nodes.len());
            nodes.iter().for_each(|&node| frame.i32(node));
        }
        frame.tags();
        frame.i32(i32::MIN);
        frame.tags();
        frame.tags();
    }

    #[test]
    fn brokers_and_leaders_are_left_out_of_metadata_and_the_rest_is_kept() {
        let header = RequestHeader {
            api: ApiKey::Metadata,
            version: 12,
            correlation: 7,
        };
        let mut expected = Answer::new(7, true);
        expected.i32(0);
        expected.array(0);
        expected.string(Some(b"cluster"));
        topics(&mut expected, -1, 5);
        let edited = without_brokers(header, &metadata([b"a", b"b"], 9092).bytes).unwrap();
        assert_eq!(edited, expected.bytes);
    }

    #[test]
    fn addresses_in_a_flexible_metadata_answer_are_mapped_and_the_rest_is_kept() {
        let frame = metadata([b"a", b"b"], 9092);
        let edited = rewrite(ApiKey::Metadata, 12, &frame.bytes, &mut to_proxy).unwrap();
        let expected = metadata([b"proxy-of-a", b"proxy-of-b"], 9093);
        assert_eq!(edited, expected.bytes);
    }

    #[test]
    fn versions_that_carry_addresses_elsewhere_are_hidden() {
        let mut frame = Answer {
            bytes: 7_i32.to_be_bytes().to_vec(),
            flexible: true,
        };
        frame.i16(0);
        frame.array(2);
        for (key, highest) in [(0, 13), (22, 5)] {
            frame.i16(key);
            frame.i16(0);
            frame.i16(highest);
            frame.tags();
        }
        frame.i32(0);
        frame.tags();
        let shown = rewrite(ApiKey::ApiVersions, 3, &frame.bytes, &mut to_proxy).unwrap();
        assert_eq!(shown.len(), frame.bytes.len());
        let mut cursor = Cursor::new(&shown, true);
        cursor.take(4 + 2).unwrap();
        assert_eq!(cursor.array(), Ok(2));
        for (key, highest) in [(0, 9), (22, 5)] {
            assert_eq!(cursor.i16(), Ok(key));
            cursor.i16().unwrap();
            assert_eq!(cursor.i16(), Ok(highest));
            cursor.tags().unwrap();
        }
    }

    #[test]
    fn a_refusal_names_every_partition_of_the_request() {
        let mut request = Answer {
            bytes: Vec::new(),
            flexible: false,
        };
        request.i16(24);
        request.i16(0);
        request.i32(9);
        request.string(Some(b"client"));
        request.string(Some(b"txn"));
        request.i64(1);
        request.i16(0);
        request.array(1);
        request.string(Some(b"topic"));
        request.array(2);
        request.i32(0);
        request.i32(3);
        let refusal = refusal(&request.bytes, 51).unwrap().unwrap();
        let mut cursor = Cursor::new(&refusal, false);
        assert_eq!(cursor.i32(), Ok(9));
        cursor.take(4).unwrap();
        assert_eq!(cursor.array(), Ok(1));
        assert_eq!(cursor.string(), Ok(Some(&b"topic"[..])));
        assert_eq!(cursor.array(), Ok(2));
        for partition in [0, 3] {
            assert_eq!(cursor.i32(), Ok(partition));
            assert_eq!(cursor.i16(), Ok(51));
        }
        assert_eq!(cursor.at, refusal.len());
    }

    #[test]
    fn truncated_frames_are_malformed_and_never_a_panic() {
        let mut request = Answer {
            bytes: Vec::new(),
            flexible: false,
        };
        request.i16(28);
        request.i16(3);
        request.i32(9);
        request.string(Some(b"client"));
        for end in 0..request.bytes.len() {
            assert_eq!(refusal(&request.bytes[..end], 1), Err(Malformed), "{end}");
        }
    }
}
