//! Writes objects in the API's protobuf form: the fields that DNS needs, under the numbers of the
//! API's `generated.proto` files, and fields that nobody knows, of every wire type, between them.
//!
//! A field whose JSON value is of another type is written with another wire type, so that an absurd
//! object is absurd in both formats.

use serde_json::Value;

/// `k8s\0` and a `runtime.Unknown` around a message.
pub fn envelope(group: &str, kind: &str, message: &[u8]) -> Vec<u8> {
    let mut unknown = Message::default();
    let mut meta = Message::default();
    meta.bytes(1, group.as_bytes());
    meta.bytes(2, kind.as_bytes());
    unknown.bytes(1, &meta.0);
    unknown.bytes(2, message);
    unknown.bytes(3, b"");
    unknown.bytes(4, b"");
    [&b"k8s\0"[..], &unknown.0].concat()
}

/// A watch event: bare itself, its object in an envelope.
pub fn event(r#type: &str, group: &str, kind: &str, value: &Value) -> Vec<u8> {
    let mut raw = Message::default();
    raw.bytes(1, &envelope(group, kind, &object(kind, value)));
    let mut event = Message::default();
    event.bytes(1, r#type.as_bytes());
    event.bytes(2, &raw.0);
    event.0
}

/// The list of these objects; `token` is that of the next page.
pub fn list(kind: &str, version: u64, token: &str, items: &[Value]) -> Vec<u8> {
    let mut meta = Message::default();
    meta.bytes(1, b"");
    meta.bytes(2, version.to_string().as_bytes());
    meta.bytes(3, token.as_bytes());
    let mut list = Message::default();
    list.bytes(1, &meta.0);
    for item in items {
        list.bytes(2, &object(kind, item));
    }
    list.0
}

/// An object without its envelope.
pub fn object(kind: &str, value: &Value) -> Vec<u8> {
    let mut message = Message::default();
    if kind == "Status" {
        message.text(3, &value["message"]);
        message.text(4, &value["reason"]);
        message.int(6, value["code"].as_i64().unwrap());
        return message.0;
    }
    message.nested(1, &value["metadata"], metadata);
    message.noise();
    match kind {
        "Service" => {
            message.nested(2, &value["spec"], service);
            message.nested(3, &value["status"], |status, value| {
                status.nested(1, &value["loadBalancer"], |balancer, value| {
                    balancer.each(1, &value["ingress"], |ingress, value| {
                        ingress.text(1, &value["ip"]);
                        ingress.text(2, &value["hostname"]);
                    });
                });
            });
        }
        "EndpointSlice" => {
            message.each(2, &value["endpoints"], endpoint);
            message.each(3, &value["ports"], port);
            message.text(4, &value["addressType"]);
        }
        "Pod" => message.nested(3, &value["status"], |status, value| {
            status.text(1, &value["phase"]);
            status.text(6, &value["podIP"]);
        }),
        _ => {}
    }
    message.0
}

fn metadata(message: &mut Message, value: &Value) {
    message.text(1, &value["name"]);
    message.bytes(2, b"");
    message.text(3, &value["namespace"]);
    message.bytes(4, b"");
    message.text(5, &value["uid"]);
    message.text(6, &value["resourceVersion"]);
    message.noise();
    message.nested(8, &Value::Object(Default::default()), |_, _| ());
    if value["deletionTimestamp"].is_string() {
        message.bytes(9, b"\x08\x01");
    }
    for (number, map) in [(11, "labels"), (12, "annotations")] {
        for (key, text) in value[map].as_object().into_iter().flatten() {
            message.nested(number, text, |entry, value| {
                entry.bytes(1, key.as_bytes());
                entry.text(2, value);
            });
        }
    }
}

fn service(spec: &mut Message, value: &Value) {
    spec.each(1, &value["ports"], port);
    spec.text(3, &value["clusterIP"]);
    spec.text(4, &value["type"]);
    spec.each(5, &value["externalIPs"], Message::content);
    spec.text(10, &value["externalName"]);
    spec.noise();
    spec.each(18, &value["clusterIPs"], Message::content);
}

fn port(message: &mut Message, value: &Value) {
    message.text(1, &value["name"]);
    message.text(2, &value["protocol"]);
    match value["port"].as_i64() {
        Some(port) => message.int(3, port),
        None => message.text(3, &value["port"]),
    }
    message.noise();
}

fn endpoint(message: &mut Message, value: &Value) {
    message.each(1, &value["addresses"], Message::content);
    message.nested(2, &value["conditions"], |conditions, value| {
        if let Some(ready) = value["ready"].as_bool() {
            conditions.int(1, i64::from(ready));
        }
        conditions.int(2, 1);
    });
    message.text(3, &value["hostname"]);
    message.noise();
    message.nested(4, &value["targetRef"], |target, value| {
        target.text(1, &value["kind"]);
        target.text(3, &value["name"]);
    });
    message.text(7, &value["zone"]);
}

#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn int(&mut self, number: u32, value: i64) {
        self.varint(u64::from(number) << 3);
        self.varint(value as u64);
    }

    fn bytes(&mut self, number: u32, value: &[u8]) {
        self.varint(u64::from(number) << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
    }

    /// A string, nothing for null, and a number for what is no string.
    fn text(&mut self, number: u32, value: &Value) {
        match value {
            Value::Null => {}
            Value::String(text) => self.bytes(number, text.as_bytes()),
            _ => self.int(number, 7),
        }
    }

    /// The octets of a string are the message.
    fn content(&mut self, value: &Value) {
        self.0
            .extend_from_slice(value.as_str().unwrap_or("").as_bytes());
    }

    fn nested(&mut self, number: u32, value: &Value, write: impl FnOnce(&mut Self, &Value)) {
        match value {
            Value::Null => {}
            Value::Object(_) | Value::String(_) => {
                let mut message = Self::default();
                write(&mut message, value);
                self.bytes(number, &message.0);
            }
            _ => self.int(number, 7),
        }
    }

    fn each(&mut self, number: u32, value: &Value, write: impl Fn(&mut Self, &Value)) {
        match value {
            Value::Null => {}
            Value::Array(values) => {
                for value in values {
                    self.nested(number, value, &write);
                }
            }
            _ => self.int(number, 7),
        }
    }

    /// Fields that nobody knows.
    fn noise(&mut self) {
        self.int(1000, -1);
        self.varint(1001 << 3 | 1);
        self.0.extend_from_slice(&[0xff; 8]);
        self.bytes(1002, &[0x80; 200]);
        self.varint(1003 << 3 | 5);
        self.0.extend_from_slice(&[0xff; 4]);
    }
}
