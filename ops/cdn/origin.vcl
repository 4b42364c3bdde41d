# What differs from place to place of varnish.vcl, which includes it.
vcl 4.1;

backend origin {
    .host = "127.0.0.1";
    .port = "8080";
    .connect_timeout = 2s;
    .first_byte_timeout = 15s;
    .between_bytes_timeout = 15s;
}

# Who may purge: the service's pods, nobody else.
acl service {
    "localhost";
    "127.0.0.1";
    "::1";
}
