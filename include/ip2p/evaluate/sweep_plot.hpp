#pragma once

/// \file
/// Draws the curves of a sweep with gnuplot.

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/evaluate/sweep_table.hpp"
#include "ip2p/io/atomic_file.hpp"
#include "ip2p/io/file_text.hpp"
#include "ip2p/io/make_folder.hpp"

namespace ip2p {

/// Contents of a figure, and the program that draws it.
struct SweepPlot {
  std::string x, y;  ///< Scores on the axes, by name in `SweepRow::scores`.
  /// Words at the axes and above the figure; without a title there is none.
  std::string x_label = "CLIP text-image direction similarity", y_label = "CLIP image similarity", title = {};
  std::string program = "gnuplot";  ///< A name to look up in PATH, or a path.
};

namespace detail {

/// `text` in gnuplot's single quotes, inside which only the quote itself is special.
inline std::string gnuplot_text(std::string_view text) {
  std::string quoted = "'";
  for (const char c : text) quoted += c == '\'' ? std::string("''") : c == '\n' ? " " : std::string(1, c);
  return quoted + "'";
}

/// Runs a program in a folder and waits for it. \return its exit status, or -1 if it did not exit normally
/// \throws Error when it cannot be started
inline int run_program_in(const std::filesystem::path& folder, const std::vector<std::string>& command) {
  std::vector<char*> arguments;
  for (const auto& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addchdir_np(&actions, folder.c_str());
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  pid_t child = 0;
  const int problem = ::posix_spawnp(&child, arguments.front(), &actions, nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  require(problem == 0, "{}: cannot be started: {}", command.front(), errno_text(problem));
  int status = 0;
  while (::waitpid(child, &status, 0) < 0) require(errno == EINTR, "{}: {}", command.front(), errno_text(errno));
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

}  // namespace detail

/// The figure as a self-contained gnuplot 5 script: a line with marks per curve, intervals along both axes, and at each
/// mark the value that varies. It writes `name`.svg and `name`.png to the working directory.
/// \throws Error when a row lacks a score of the axes
inline std::string sweep_plot_script(std::span<const SweepRow> rows, const SweepPlot& plot, const std::string& name) {
  require(!rows.empty(), "figure: expected points, found none");
  const auto text = [](const std::string& words) { return detail::gnuplot_text(words); };
  std::vector<std::string> curves;
  std::string data;
  for (const auto& row : rows) {
    for (const auto& score : {plot.x, plot.y}) {
      require(row.scores.contains(score), "figure: expected a score '{}' of every point, found none of {}", score,
              row.point.key());
    }
    if (curves.empty() || curves.back() != row.point.curve) {
      if (!curves.empty()) data += "EOD\n";
      curves.push_back(row.point.curve);
      data += fmt::format("$curve{} << EOD\n", curves.size());
    }
    const auto &x = row.scores.at(plot.x), &y = row.scores.at(plot.y);
    std::string label = row.point.label;
    for (char& c : label) c = c == '"' || c == '\n' ? ' ' : c;
    data += fmt::format("{:.8g} {:.8g} {:.8g} {:.8g} {:.8g} {:.8g} \"{}\"\n", x.mean, x.low, x.high, y.mean, y.low,
                        y.high, label);
  }
  data += "EOD\n";
  std::string drawn;
  for (std::size_t i = 1; i <= curves.size(); ++i) {
    drawn += fmt::format(
        "{}$curve{} using 1:4:2:3:5:6 with xyerrorbars linecolor {} pointtype 0 notitle, \\\n"
        "     $curve{} using 1:4 with linespoints linecolor {} pointtype {} linewidth 1.5 title {}, \\\n"
        "     $curve{} using 1:4:7 with labels offset 0.8,0.7 left font ',9' textcolor linetype {} notitle",
        i == 1 ? "plot " : ", \\\n     ", i, i, i, i, i + 3, text(curves[i - 1]), i, i);
  }
  const auto terminal = [&](const char* options, const char* extension) {
    return fmt::format("set terminal {}\nset output {}\n{}\nset output\n", options, text(name + extension), drawn);
  };
  return fmt::format(
             "# Drawn by: gnuplot {}.gp\nset encoding utf8\nset xlabel {}\nset ylabel {}\n{}set grid\nset key outside "
             "right top\nset offsets graph 0.05, graph 0.05, graph 0.05, graph 0.05\n",
             name, text(plot.x_label), text(plot.y_label),
             plot.title.empty() ? "" : "set title " + text(plot.title) + "\n") +
         data + terminal("svg noenhanced size 900,600 background 'white' font 'sans,12'", ".svg") +
         terminal("pngcairo noenhanced size 1350,900 background 'white' font 'sans,12' fontscale 1.5", ".png");
}

/// Writes `folder`/`name`.gp and runs it to draw `name`.svg and `name`.png beside it.
/// \throws Error when the program is missing or fails; the script is kept
inline void draw_sweep(const std::filesystem::path& folder, const std::string& name, std::span<const SweepRow> rows,
                       const SweepPlot& plot) {
  const auto script = sweep_plot_script(rows, plot, name);
  const auto script_path = folder / (name + ".gp");
  write_file_atomically(script_path, std::as_bytes(std::span(script)));
  for (const char* extension : {".svg", ".png"}) std::filesystem::remove(folder / (name + extension));
  // The program writes its files bit by bit and does not notice a full disk, so the figures are taken from a folder of
  // its own when they are whole.
  const auto drawing = folder / ("." + name + ".drawing");
  std::error_code ignored;
  std::filesystem::remove_all(drawing, ignored);
  make_folder(drawing);
  const std::unique_ptr<const std::filesystem::path, void (*)(const std::filesystem::path*)> cleaned(
      &drawing, [](const std::filesystem::path* path) {
        std::error_code ignored;
        // Empty, it need not be listed, which may fail.
        if (!std::filesystem::remove(*path, ignored)) std::filesystem::remove_all(*path, ignored);
      });
  int status = 0;
  try {
    status = detail::run_program_in(drawing, {plot.program, "../" + name + ".gp"});
  } catch (const Error& error) {
    throw_error("{}; figures are drawn by gnuplot (Debian: gnuplot-nox), from {}", error.what(), script_path.string());
  }
  // If the program is missing, some systems start a child that exits with 127.
  require(status != 127, "{}: cannot be started; figures are drawn by gnuplot (Debian: gnuplot-nox), from {}",
          plot.program, script_path.string());
  constexpr std::size_t last = 12;  // a PNG ends with a chunk of so many bytes
  for (const auto& [extension, end] : {std::pair(".svg", "</svg>"), std::pair(".png", "IEND")}) {
    const auto drawn = detail::file_text(drawing / (name + extension)).value_or("");
    const bool whole = drawn.find(end, drawn.size() - std::min(drawn.size(), last)) != std::string::npos;
    const auto path = folder / (name + extension);
    require(status == 0 && !drawn.empty(), "{}: expected it to draw {}, found that it ended with status {}",
            plot.program, path.string(), status);
    require(whole, "{}: expected it to draw the whole of {}, found {} bytes; {}?", plot.program, path.string(),
            drawn.size(), detail::errno_text(ENOSPC));
    write_file_atomically(path, std::as_bytes(std::span(drawn)));
    std::filesystem::remove(drawing / (name + extension), ignored);
  }
}

}  // namespace ip2p
