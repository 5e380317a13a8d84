# Writes the documents that the program holds: cmake -DPAGE=DIR -DINTERFACE=FILE -DOUT=FILE -P embed.cmake
# The page is one document: its style and its script take the place of the comments that name them.
file(READ ${PAGE}/index.html page)
foreach(part "studio.css|style|style" "studio.js|script|script type=\"module\"")
  string(REPLACE "|" ";" part "${part}")
  list(GET part 0 file)
  list(GET part 1 element)
  list(GET part 2 opening)
  file(READ ${PAGE}/${file} content)
  string(FIND "${page}" "<!-- ${file} -->" at)
  string(FIND "${content}" "</${element}" early)
  if(at EQUAL -1 OR NOT early EQUAL -1)
    message(FATAL_ERROR "${PAGE}: expected <!-- ${file} --> in index.html, and no </${element} in ${file}")
  endif()
  string(REPLACE "<!-- ${file} -->" "<${opening}>\n${content}</${element}>" page "${page}")
endforeach()
file(READ ${INTERFACE} interface)
file(WRITE ${OUT} "#include \"page.hpp\"

namespace studio {

const std::string_view page_document = R\"__(${page})__\";

const std::string_view interface_document = R\"__(${interface})__\";

}  // namespace studio
")
