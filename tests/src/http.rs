//! The little HTTP that the harness needs: a GET on this machine, and a server that answers as a
//! test says.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::Duration,
};

/// How long one request may take.
const LIMIT: Duration = Duration::from_secs(5);

/// An answer: status and body.
#[derive(Debug, Clone)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Body text.
    pub body: String,
}

/// Asks `address` for `path`.
pub fn get(address: SocketAddr, path: &str) -> io::Result<Response> {
    let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    // HTTP/1.0, so that the body ends with the connection and is never chunked.
    write!(
        stream,
        "GET {path} HTTP/1.0\r\nHost: {address}\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    )?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    let text = String::from_utf8(bytes).map_err(io::Error::other)?;
    let (head, body) = text
        .split_once("\r\n\r\n")
        .ok_or_else(|| io::Error::other("the answer has no header"))?;
    let status = head
        .split_whitespace()
        .nth(1)
        .and_then(|code| code.parse().ok())
        .ok_or_else(|| io::Error::other("the answer has no status"))?;
    Ok(Response {
        status,
        body: body.to_owned(),
    })
}

/// What a client asks.
#[derive(Debug, Clone)]
pub struct Request {
    /// Path, with its query.
    pub path: String,
    /// The header that shows who asks.
    pub authorization: Option<String>,
    /// Body.
    pub body: Vec<u8>,
}

/// Serves requests, given as path and body, until the test process ends. Each connection has a
/// thread of its own, so an answer may take as long as the test wants.
pub fn serve(answer: impl Fn(&str, &[u8]) -> Response + Send + Sync + 'static) -> SocketAddr {
    serve_requests(move |request| answer(&request.path, &request.body))
}

/// The same, for whole requests.
pub fn serve_requests(answer: impl Fn(&Request) -> Response + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener
        .local_addr()
        .expect("a bound listener has an address");
    let answer = Arc::new(answer);
    thread::Builder::new()
        .name("http".into())
        .spawn(move || {
            for stream in listener.incoming().flatten() {
                let answer = Arc::clone(&answer);
                thread::spawn(move || converse(stream, &*answer));
            }
        })
        .expect("a thread can be started");
    address
}

/// Answers the requests of one connection until it ends.
fn converse(stream: TcpStream, answer: &dyn Fn(&Request) -> Response) {
    let Ok(mut answers) = stream.try_clone() else {
        return;
    };
    let mut requests = BufReader::new(stream);
    while let Some(request) = read_request(&mut requests) {
        let Response { status, body } = answer(&request);
        let answer = format!(
            "HTTP/1.1 {status} Scripted\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        if answers.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

fn read_request(from: &mut impl BufRead) -> Option<Request> {
    let mut line = String::new();
    from.read_line(&mut line).ok()?;
    let path = line.split_whitespace().nth(1)?.to_owned();
    let mut authorization = None;
    let mut length = 0;
    loop {
        line.clear();
        from.read_line(&mut line).ok()?;
        let header = line.trim();
        if header.is_empty() {
            break;
        }
        let Some((name, value)) = header.split_once(':') else {
            continue;
        };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().ok()?,
            "authorization" => authorization = Some(value.trim().to_owned()),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body).ok()?;
    Some(Request {
        path,
        authorization,
        body,
    })
}
