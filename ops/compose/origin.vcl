# For ops/cdn/varnish.vcl: the service has this address in the network `edge` of compose.yaml.
vcl 4.1;

backend origin {
    .host = "10.231.80.2";
    .port = "8080";
    .connect_timeout = 2s;
    .first_byte_timeout = 15s;
    .between_bytes_timeout = 15s;
}

# Who may purge: the service, nobody else; not the network's gateway, as which visitors may come in.
acl service {
    "10.231.80.2";
}
