//! Just enough of Kafka's wire format: request headers, the answers that carry broker addresses,
//! and the error answers of the transactional requests.
//!
//! Written from the protocol's published message definitions. Versions that librdkafka 2.12 does
//! not send are handled where they cost nothing.

use std::fmt;

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

    fn is_flexible(self, version: i16) -> bool {
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

type Result<T> = std::result::Result<T, Malformed>;

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

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    flexible: bool,
}

impl<'a> Cursor<'a> {
    fn new(bytes: &'a [u8], flexible: bool) -> Self {
        Self {
            bytes,
            at: 0,
            flexible,
        }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(count).ok_or(Malformed)?;
        let taken = self.bytes.get(self.at..end).ok_or(Malformed)?;
        self.at = end;
        Ok(taken)
    }

    fn i16(&mut self) -> Result<i16> {
        let bytes = self.take(2)?;
        Ok(i16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn i32(&mut self) -> Result<i32> {
        let bytes = self.take(4)?;
        Ok(i32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    fn varint(&mut self) -> Result<usize> {
        let mut value = 0;
        for shift in (0..35).step_by(7) {
            let byte = self.take(1)?[0];
            value |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    /// A length; `None` is null. Compact lengths are one more than they say.
    fn length(&mut self, classic: fn(&mut Self) -> Result<i32>) -> Result<Option<usize>> {
        if self.flexible {
            return Ok(self.varint()?.checked_sub(1));
        }
        Ok(usize::try_from(classic(self)?).ok())
    }

    fn array(&mut self) -> Result<usize> {
        Ok(self.length(Self::i32)?.unwrap_or(0))
    }

    fn string(&mut self) -> Result<Option<&'a [u8]>> {
        let length = self.length(|cursor| cursor.i16().map(i32::from))?;
        length.map(|length| self.take(length)).transpose()
    }

    fn records(&mut self) -> Result<()> {
        if let Some(length) = self.length(Self::i32)? {
            self.take(length)?;
        }
        Ok(())
    }

    fn tags(&mut self) -> Result<()> {
        if self.flexible {
            for _ in 0..self.varint()? {
                self.varint()?;
                let length = self.varint()?;
                self.take(length)?;
            }
        }
        Ok(())
    }
}

/// An answer in the making.
struct Answer {
    bytes: Vec<u8>,
    flexible: bool,
}

impl Answer {
    fn new(correlation: i32, flexible: bool) -> Self {
        let mut answer = Self {
            bytes: correlation.to_be_bytes().to_vec(),
            flexible,
        };
        answer.tags();
        answer
    }

    fn i16(&mut self, value: i16) {
        self.bytes.extend(value.to_be_bytes());
    }

    fn i32(&mut self, value: i32) {
        self.bytes.extend(value.to_be_bytes());
    }

    fn i64(&mut self, value: i64) {
        self.bytes.extend(value.to_be_bytes());
    }

    fn varint(&mut self, mut value: usize) {
        while value >= 0x80 {
            self.bytes
                .push(u8::try_from(value & 0x7f).expect("seven bits") | 0x80);
            value >>= 7;
        }
        self.bytes.push(u8::try_from(value).expect("seven bits"));
    }

    fn array(&mut self, length: usize) {
        if self.flexible {
            self.varint(length + 1);
        } else {
            self.i32(i32::try_from(length).expect("few elements"));
        }
    }

    fn string(&mut self, text: Option<&[u8]>) {
        match (self.flexible, text) {
            (true, None) => self.varint(0),
            (true, Some(text)) => {
                self.varint(text.len() + 1);
                self.bytes.extend(text);
            }
            (false, None) => self.i16(-1),
            (false, Some(text)) => {
                self.i16(i16::try_from(text.len()).expect("a short string"));
                self.bytes.extend(text);
            }
        }
    }

    fn tags(&mut self) {
        if self.flexible {
            self.varint(0);
        }
    }
}

/// Copies an answer, changing addresses on the way.
struct Edit<'a> {
    from: Cursor<'a>,
    to: Answer,
}

impl<'a> Edit<'a> {
    fn response(api: ApiKey, version: i16, frame: &'a [u8]) -> Result<Self> {
        let flexible = api.is_flexible(version);
        let mut from = Cursor::new(frame, flexible);
        let correlation = from.i32()?;
        from.tags()?;
        Ok(Self {
            from,
            to: Answer::new(correlation, flexible),
        })
    }

    fn copy_bytes(&mut self, count: usize) -> Result<()> {
        let bytes = self.from.take(count)?;
        self.to.bytes.extend(bytes);
        Ok(())
    }

    fn copy_array(&mut self) -> Result<usize> {
        let length = self.from.array()?;
        self.to.array(length);
        Ok(length)
    }

    fn copy_string(&mut self) -> Result<()> {
        let text = self.from.string()?;
        self.to.string(text);
        Ok(())
    }

    fn copy_tags(&mut self) -> Result<()> {
        let start = self.from.at;
        self.from.tags()?;
        let tags = &self.from.bytes[start..self.from.at];
        self.to.bytes.extend(tags);
        Ok(())
    }

    fn map_address(&mut self, route: &mut dyn FnMut(&str, i32) -> (String, i32)) -> Result<()> {
        let host = self.from.string()?.unwrap_or_default();
        let port = self.from.i32()?;
        let host = std::str::from_utf8(host).map_err(|_| Malformed)?;
        // An answer that names nobody says so with an empty host and port -1.
        let (host, port) = if host.is_empty() || port < 0 {
            (host.to_owned(), port)
        } else {
            route(host, port)
        };
        self.to.string(Some(host.as_bytes()));
        self.to.i32(port);
        Ok(())
    }

    fn finish(mut self) -> Vec<u8> {
        let rest = &self.from.bytes[self.from.at..];
        self.to.bytes.extend(rest);
        self.to.bytes
    }
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
    fn addresses_in_a_flexible_metadata_answer_are_mapped_and_the_rest_is_kept() {
        let mut frame = Answer::new(7, true);
        frame.i32(0);
        frame.array(2);
        for (id, host) in [(1, &b"a"[..]), (2, &b"b"[..])] {
            frame.i32(id);
            frame.string(Some(host));
            frame.i32(9092);
            frame.string(None);
            frame.tags();
        }
        frame.string(Some(b"cluster"));
        frame.i32(1);
        let edited = rewrite(ApiKey::Metadata, 12, &frame.bytes, &mut to_proxy).unwrap();
        let mut cursor = Cursor::new(&edited, true);
        cursor.take(4).unwrap();
        cursor.tags().unwrap();
        cursor.take(4).unwrap();
        assert_eq!(cursor.array(), Ok(2));
        for (id, host) in [(1, &b"proxy-of-a"[..]), (2, &b"proxy-of-b"[..])] {
            assert_eq!(cursor.i32(), Ok(id));
            assert_eq!(cursor.string(), Ok(Some(host)));
            assert_eq!(cursor.i32(), Ok(9093));
            assert_eq!(cursor.string(), Ok(None));
            cursor.tags().unwrap();
        }
        assert_eq!(cursor.string(), Ok(Some(&b"cluster"[..])));
        assert_eq!(cursor.i32(), Ok(1));
        assert_eq!(cursor.at, edited.len());
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
