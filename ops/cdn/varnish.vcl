# A CDN of one machine: Varnish 6.1 or newer in front of the origin. Where the origin is, and who may purge: origin.vcl.
#
#   varnishd -f ops/cdn/varnish.vcl -a :80 -s malloc,4g
#   AVION_MEDIA_CDN__PURGE_URLS=http://varnish.internal
#   AVION_MEDIA_HTTP__TRUSTED_PROXIES=<the address of this machine>
#
# What the origin says is immutable stays a day, then is asked for again by its ETag (304: no bytes). So a purge that never
# arrived costs a day, not a year. While the origin drains, restarts or is unavailable, what is here goes on being served.
vcl 4.1;

include "./origin.vcl";

sub vcl_recv {
    if (req.method == "PURGE" && client.ip !~ service) {
        return (synth(405));
    }
    if (req.method != "PURGE" && req.method != "GET" && req.method != "HEAD") {
        return (synth(405));
    }
    # Private media have a token in their paths, and no query. The origin checks each request; no response is stored.
    if (req.method != "PURGE" && req.url ~ "^/(media/[0-9A-Za-z]+/[0-9A-Za-z_-]{48}(/credentials)?|thumbnail/[a-z][a-z0-9_-]*/[0-9A-Za-z]+/[0-9A-Za-z_-]{48}(\.webp)?)$") {
        unset req.http.Cookie;
        unset req.http.Authorization;
        return (pass);
    }
    # One object, one entry: whatever a link has behind its path, and whoever asks.
    set req.url = regsub(req.url, "\?.*$", "");
    # The origin's paths, letter by letter: in another spelling (%6dedia) an object would be an entry that no purge
    # reaches.
    if (req.url !~ "^/(media/[0-9A-Za-z]+(/credentials)?|thumbnail/[a-z][a-z0-9_-]*/[0-9A-Za-z]+(\.webp)?)$") {
        return (synth(404));
    }
    if (req.method == "PURGE") {
        return (purge);
    }
    unset req.http.Cookie;
    unset req.http.Authorization;
    return (hash);
}

# By the path alone, whatever host a visitor asks for and a purge is sent to: there is one origin behind.
sub vcl_hash {
    hash_data(req.url);
    return (lookup);
}

sub vcl_backend_response {
    if (bereq.is_bgfetch && beresp.status >= 500) {
        return (abandon);  # an origin in trouble must not replace what is here
    }
    if (beresp.ttl > 1d) {
        set beresp.ttl = 1d;
    }
    # Others might have been deleted: 60 s while Redis is unavailable, and not longer.
    if (beresp.status == 200 && beresp.http.Cache-Control ~ "immutable") {
        set beresp.grace = 7d;  # stale, but served while a fresh one is fetched, or cannot be had
        set beresp.keep = 7d;   # for If-None-Match
    } else {
        set beresp.grace = 0s;
    }
}

sub vcl_deliver {
    if (obj.hits > 0) {
        set resp.http.X-Cache = "HIT";
    } else {
        set resp.http.X-Cache = "MISS";
    }
    unset resp.http.Via;
    unset resp.http.X-Varnish;
}
