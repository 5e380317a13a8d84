// Requests as they are sent: heads, bodies and forms, in whatever pieces they come, and what is refused of them.

#include <algorithm>
#include <cstddef>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fault.hpp"
#include "form.hpp"
#include "http_body.hpp"
#include "http_head.hpp"
#include "multipart.hpp"
#include "support/catch.hpp"

namespace {

using std::string_literals::operator""s;

/// The status with which something is refused; 0 if it is not.
template <class Attempt>
int status_of(Attempt&& attempt) {
  try {
    attempt();
  } catch (const studio::Fault& fault) {
    CHECK(std::string_view(fault.what()).size() > 8);
    return fault.status();
  }
  return 0;
}

int status_of_head(const std::string& text) {
  return status_of([&] { static_cast<void>(studio::parse_head(text)); });
}

studio::Head head_with(const std::string& headers) {
  return studio::parse_head("POST /api/jobs HTTP/1.1\r\nHost: localhost\r\n" + headers + "\r\n");
}

int status_with(const std::string& headers) {
  return status_of([&] { static_cast<void>(head_with(headers)); });
}

/// A body that comes in pieces of so many bytes.
std::string read_body(std::string_view sent, std::optional<std::size_t> length, std::size_t piece, std::size_t most) {
  studio::Body body(
      [&](char* data, std::size_t size) {
        const auto count = sent.copy(data, std::min(size, piece));
        sent.remove_prefix(count);
        return count;
      },
      length, most);
  std::string whole;
  for (auto next = body.next(); !next.empty(); next = body.next()) whole += next;
  CHECK(body.next().empty());
  return whole + "|" + std::string(sent);
}

int status_of_chunks(const std::string& sent, std::size_t most = 1000) {
  return status_of([&] { static_cast<void>(read_body(sent, {}, 7, most)); });
}

studio::Form form_of(std::string_view sent, std::size_t piece) {
  studio::Form form({{"image", 100, true}, {"settings", 20, false}});
  studio::Multipart fields("b-1", form);
  for (; !sent.empty(); sent.remove_prefix(std::min(piece, sent.size()))) fields.add(sent.substr(0, piece));
  fields.finish();
  form.finish();
  return form;
}

int status_of_form(const std::string& sent) {
  return status_of([&] { static_cast<void>(form_of(sent, 1000)); });
}

}  // namespace

TEST_CASE("A request's head is read into its parts", "[studio]") {
  const auto head = studio::parse_head(
      "POST /api/jo%62s%2F%00%ff?x=%2 HTTP/1.1\r\nHost:localhost:81\r\nX-A: \t a  b\t\r\nx-a: "
      "\xc3\xa9\r\nEmpty:\r\n\r\n");
  CHECK(head.request.method == "POST");
  CHECK(head.request.path == "/api/jobs/\0\xff"s);
  CHECK(head.request.header("host") == "localhost:81");
  CHECK(head.request.header("X-A") == "a  b");
  CHECK(head.request.headers.count("x-A") == 2);
  CHECK(head.request.headers.contains("Empty"));
  CHECK(head.keeps_open);
  CHECK_FALSE(head.has_body());
  CHECK(studio::parse_head("BREW http://a/#b HTTP/1.0\r\n\r\n").request.path == "http://a/");
}

TEST_CASE("A head says whether the connection stays and how the body is sent", "[studio]") {
  CHECK_FALSE(head_with("Connection: upgrade, Close\r\n").keeps_open);
  CHECK(head_with("Connection: closed\r\n").keeps_open);
  const auto old = studio::parse_head("GET / HTTP/1.0\r\n\r\n");
  CHECK(old.http_1_0);
  CHECK_FALSE(old.keeps_open);
  CHECK(head_with("Expect: 100-Continue\r\n").waits);
  CHECK(head_with("Transfer-Encoding: Chunked\r\n").chunked);
  CHECK(head_with("Content-Length: 007\r\n").length == std::size_t{7});
  CHECK_FALSE(head_with("Content-Length: 0\r\n").has_body());
  CHECK(head_with("Content-Length: 99999999999999999999999\r\n").length == std::numeric_limits<std::size_t>::max());
}

TEST_CASE("Heads that are malformed, or could be read in two ways, are refused", "[studio]") {
  for (const auto* text :
       {"\r\n\r\n", "GET\r\n\r\n", "GET / \r\n\r\n", "GET  / HTTP/1.1\r\n\r\n", " GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1 \r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "GET / http/1.1\r\n\r\n", "GET /\xff HTTP/1.1\r\n\r\n",
        "GET /\x01 HTTP/1.1\r\n\r\n", "G(T / HTTP/1.1\r\n\r\n", "GET /%4 HTTP/1.1\r\n\r\n", "GET /%zz HTTP/1.1\r\n\r\n",
        "GET /%-1 HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\n\r\n", "GET / HTTP/1.1\r\nA: b\n\r\n"}) {
    INFO(text);
    CHECK(status_of_head(text) == 400);
  }
  CHECK(status_of_head("GET /" + std::string(studio::most_target_bytes, 'a') + " HTTP/1.1\r\n\r\n") == 414);
  for (const auto& headers : {"A\r\n"s,
                              ": b\r\n"s,
                              "A : b\r\n"s,
                              "A: b\r\n folded\r\n"s,
                              "A\xc3: b\r\n"s,
                              "A: b\0c\r\n"s,
                              "A: b\rc\r\n"s,
                              "A: \x7f\r\n"s,
                              "Content-Length: \r\n"s,
                              "Content-Length: -1\r\n"s,
                              "Content-Length: +1\r\n"s,
                              "Content-Length: 0x1\r\n"s,
                              "Content-Length: 1 1\r\n"s,
                              "Content-Length: 1, 1\r\n"s,
                              "Content-Length: 1\r\nContent-Length: 1\r\n"s,
                              "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n"s,
                              "Transfer-Encoding: gzip, chunked\r\n"s,
                              "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"s,
                              "Transfer-Encoding: identity\r\n"s,
                              "Transfer-Encoding: \vchunked\r\n"s}) {
    INFO(headers);
    CHECK(status_with(headers) == 400);
  }
  CHECK(status_of_head("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n") == 400);
  CHECK(status_with("Content-Encoding: gzip\r\n") == 415);
  CHECK(status_with("Content-Encoding: Identity\r\n") == 0);
}

TEST_CASE("Bodies are read to their end, whatever the pieces", "[studio]") {
  for (const std::size_t piece : {1, 2, 3, 100}) {
    CHECK(read_body("abcdeGET /", 5, piece, 5) == "abcde|GET /");
    CHECK(read_body("GET /", 0, piece, 0) == "|GET /");
    CHECK(read_body("3\r\nabc\r\n00A \t;x=\"y\"\r\n0123456789\r\n0;last\r\nTrailer: x\r\n\r\nGET /", {}, piece, 100) ==
          "abc0123456789|GET /");
  }
}

TEST_CASE("Bodies that are too long, cut off or wrongly chunked are refused", "[studio]") {
  CHECK(status_of([] { static_cast<void>(read_body("abc", 3, 7, 2)); }) == 413);
  CHECK(status_of([] { static_cast<void>(read_body("abc", 4, 7, 4)); }) == 400);
  for (const auto& sent : {""s, "3"s, "3\r\nabc"s, "3\r\nabc\r\n"s, "3\r\nabc\r\n0\r\n"s, "3\r\nabcd\r\n0\r\n\r\n"s,
                           "3\r\nab\r\n0\r\n\r\n"s, "3\nabc\n0\n\n"s, "3\rabc\r\n0\r\n\r\n"s, "-3\r\nabc\r\n0\r\n\r\n"s,
                           "+3\r\nabc\r\n0\r\n\r\n"s, "0x3\r\nabc\r\n0\r\n\r\n"s, " 3\r\nabc\r\n0\r\n\r\n"s,
                           "3 x\r\nabc\r\n0\r\n\r\n"s, "\r\nabc"s, "g\r\n"s, "3\0\r\nabc\r\n0\r\n\r\n"s}) {
    INFO(sent);
    CHECK(status_of_chunks(sent) == 400);
  }
  CHECK(status_of_chunks(std::string(5000, '0') + "\r\n\r\n", 100000) == 400);
  CHECK(status_of_chunks("3e9\r\n") == 413);
  CHECK(status_of_chunks("ffffffffffffffff\r\n") == 413);
  CHECK(status_of_chunks("10000000000000000\r\n") == 413);
  // What is around the chunks counts too, so that it cannot go on forever.
  std::string endless;
  for (int i = 0; i < 1000; ++i) endless += "1;extension\r\nx\r\n";
  CHECK(status_of_chunks(endless) == 413);
  endless = "0\r\n";
  for (int i = 0; i < 1000; ++i) endless += "Trailer: x\r\n";
  CHECK(status_of_chunks(endless) == 413);
}

TEST_CASE("Forms are split into fields, whatever the pieces", "[studio]") {
  const auto sent =
      "before\r\n--b-1 \t\r\nContent-Type: image/png\r\ncontent-disposition: form-data; "
      "filename=\"a;\\\"name=\\\"x.png\"; "
      "name=\"image\"\r\n\r\n\r\n--b-\r\n--b\r\n\0-\xff\r\n--b-1\r\nContent-Disposition:form-data;name=settings;"
      "\r\n\r\n{}\r\n"
      "--b-1--\r\nafter\r\n--b-1\r\n"s;
  for (std::size_t piece = 1; piece <= sent.size(); ++piece) {
    const auto form = form_of(sent, piece);
    REQUIRE(form.find("image") == "\r\n--b-\r\n--b\r\n\0-\xff"s);
    REQUIRE(form.find("settings") == "{}");
  }
  CHECK(form_of("--b-1\r\nContent-Disposition: form-data; name=\"image\"\r\n\r\n\r\n--b-1--", 1000).find("image") ==
        "");
}

TEST_CASE("Forms that are cut off or name no fields are refused", "[studio]") {
  const auto begin = "--b-1\r\nContent-Disposition: form-data; name=\"image\"\r\n\r\n"s;
  for (
      const auto& sent :
      {""s,
       "--b-1"s,
       "--b-1--"s,
       "--b-2\r\n"s,
       begin,
       begin + "x\r\n--b-1",
       begin + "x\r\n--b-1\r\n",
       begin + "x\r\n--b-1-x",
       begin + "x\n--b-1--",
       begin + "x\r\n--b-1x\r\n",
       "--b-1\r\n\r\nx\r\n--b-1--"s,
       "--b-1\r\nContent-Type: text/plain\r\n\r\nx\r\n--b-1--"s,
       "--b-1\r\nContent-Disposition: attachment; name=\"image\"\r\n\r\nx\r\n--b-1--"s,
       "--b-1\r\nContent-Disposition: form-data; name=\"image\r\n\r\nx\r\n--b-1--"s,
       "--b-1\r\nContent-Disposition: form-data; name\r\n\r\nx\r\n--b-1--"s,
       "--b-1\r\nContent-Disposition: form-data; name=image; name=image\r\n\r\nx\r\n--b-1--"s,
       "--b-1\r\nContent-Disposition: form-data; name=image\r\nContent-Disposition: form-data; name=image\r\n\r\nx\r\n--b-1--"s,
       "--b-1\r\nContent-Disposition: form-data; name=other\r\n\r\nx\r\n--b-1--"s,
       begin + "x\r\n" + begin + "x\r\n--b-1--",
       "--b-1" + std::string(200, ' ') + "\r\n",
       "--b-1\r\nA: " + std::string(9000, 'a'),
       "--b-1\r\nA: " + std::string(9000, 'a') + "\r\n\r\n"}) {
    INFO(sent.substr(0, 300));
    CHECK(status_of_form(sent) == 400);
  }
  CHECK(status_of_form(begin + std::string(101, 'x') + "\r\n--b-1--") == 413);
}

TEST_CASE("Boundaries are those of RFC 2046", "[studio]") {
  CHECK(studio::boundary_of("multipart/form-data; boundary=a'()+_,-./:=?z") == "a'()+_,-./:=?z");
  CHECK(studio::boundary_of("Multipart/Form-Data ;charset=utf-8; BOUNDARY=\"a b\"") == "a b");
  CHECK(studio::boundary_of("multipart/form-data;boundary=" + std::string(70, '-')).size() == 70);
  for (const auto& type :
       {"multipart/form-data"s, "multipart/form-data; boundary="s, "multipart/form-data; boundary=\"a"s,
        "multipart/form-data; boundary=\"a \""s, "multipart/form-data; boundary=a\xc3\xa9"s, ""s, "text/plain"s,
        "multipart/form-data; boundary=a; boundary=b"s, "multipart/form-datax; boundary=a"s,
        "multipart/form-data; boundary=" + std::string(71, 'a')}) {
    INFO(type);
    CHECK(status_of([&] { static_cast<void>(studio::boundary_of(type)); }) == 400);
  }
}
